"""Averages that scripts take over all entries of a state_dict: they load, and the formula is still checked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gatewise as gw
from gatewise import cells

State = dict[str, Tensor]


def mean(a: State, b: State) -> State:
    return {name: (a[name] + b[name]) / 2 for name in a}


def federated(a: State, b: State) -> State:
    return {name: torch.stack([state[name].float() for state in (a, b)]).mean(0) for name in a}


def in_place(a: State, b: State) -> State:
    kept = {name: value.clone() for name, value in a.items()}
    for name, value in kept.items():
        value.mul_(0.5).add_(b[name], alpha=0.5)
    return kept


def of_changes(a: State, b: State) -> State:
    return {name: a[name] + 0.5 * (b[name] - a[name]) for name in a}


def in_one_vector(a: State, b: State) -> State:
    whole = sum(torch.cat([value.flatten() for value in state.values()]) for state in (a, b)) / 2
    pieces = whole.split([value.numel() for value in a.values()])
    return {name: piece.view(a[name].shape) for name, piece in zip(a, pieces, strict=True)}


@pytest.mark.parametrize("average", [mean, federated, in_place, of_changes, in_one_vector])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_average_loads(average: Callable[[State, State], State], dtype: torch.dtype) -> None:
    one, two, both = (nn.Sequential(nn.Linear(3, 5), gw.GRU(5, 7)).to(dtype) for _ in range(3))
    averaged = average(one.state_dict(), two.state_dict())
    assert str(both.load_state_dict(averaged)) == "<All keys matched successfully>"
    for a, b, c in zip(one.parameters(), two.parameters(), both.parameters(), strict=True):
        torch.testing.assert_close(c, ((a.float() + b.float()) / 2).to(dtype), rtol=0.02, atol=0.01)
    other = nn.Sequential(nn.Linear(3, 5), gw.Recurrent(cells.gru_renew, 5, 7)).to(dtype)
    with pytest.raises(RuntimeError, match="the weights of cell gru, but this layer computes gru_renew"):
        other.load_state_dict(averaged)


def test_torchs_averaged_model() -> None:
    model, x = nn.Sequential(nn.Linear(3, 5), gw.GRU(5, 7)), torch.randn(4, 2, 3)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x)[0].square().sum().backward()
        optimizer.step()
        averaged.update_parameters(model)
    fresh = AveragedModel(nn.Sequential(nn.Linear(3, 5), gw.GRU(5, 7)))
    fresh.load_state_dict(averaged.state_dict())
    assert torch.equal(fresh(x)[0], averaged(x)[0])
    assert not torch.equal(fresh(x)[0], model(x)[0])
