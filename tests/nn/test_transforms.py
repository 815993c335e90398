"""Layers under torch's transforms: ensembles, gradients of each sample, forward mode, compilation for any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

import gatewise as gw

Make = Callable[[], gw.Recurrent]
MAKE: dict[str, Make] = {
    "gru": lambda: gw.GRU(3, 5, num_layers=2, dtype=torch.float64),
    "lstm": lambda: gw.LSTM(3, 5, bidirectional=True, learn_initial_state=True, dtype=torch.float64),
}
EACH = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


def loss_of(layer: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    y: Tensor = functional_call(layer, weights, (x,))[0]
    return (y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).sin()).sum()


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in layer.named_parameters()}


@EACH
def test_an_ensemble_is_its_members(make: Make, backend: str) -> None:
    members, x = [make() for _ in range(3)], torch.randn(4, 2, 3, dtype=torch.float64)
    stacked, _ = stack_module_state(members)  # type: ignore[arg-type]
    base = make().to("meta")
    y = vmap(lambda weights: functional_call(base, weights, (x,))[0])(stacked)
    torch.testing.assert_close(y, torch.stack([member(x)[0] for member in members]))
    y.square().sum().backward()
    for k, member in enumerate(members):
        member(x)[0].square().sum().backward()
        for name, p in member.named_parameters():
            torch.testing.assert_close(stacked[name].grad[k], p.grad)  # type: ignore[index]


@EACH
def test_gradients_of_each_sample(make: Make, backend: str) -> None:
    layer, x = make(), torch.randn(4, 3, 3, dtype=torch.float64)
    weights = weights_of(layer)
    each = vmap(grad(lambda w, row: loss_of(layer, w, row)), in_dims=(None, 1))(weights, x)
    for k in range(3):
        alone = grad(lambda w, k=k: loss_of(layer, w, x[:, k]))(weights)
        for name, expected in alone.items():
            torch.testing.assert_close(each[name][k], expected)


@EACH
def test_forward_mode_names_what_computes_it(make: Make) -> None:
    layer, x = make(), torch.randn(4, 2, 3, dtype=torch.float64)

    def tangent() -> Tensor:
        result: Any = jvp(lambda x: layer(x)[0], (x,), (torch.ones_like(x),))
        return result[1]

    with gw.backend("cpu"), pytest.raises(RuntimeError, match=r"gatewise\.backend\('eager'\)"):
        tangent()
    with gw.backend("eager"):
        far = (layer(x + 1e-6)[0] - layer(x - 1e-6)[0]) / 2e-6
        torch.testing.assert_close(tangent(), far, rtol=1e-6, atol=1e-8)


@EACH
def test_one_compilation_serves_every_batch_and_length(make: Make) -> None:
    torch.compiler.reset()
    layer = make()
    head = nn.Linear(layer.num_directions * layer.hidden_size, 2, dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return head(layer(torch.tanh(x))[0]).square().mean()

    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    compilations = []
    for steps, rows in ((7, 4), (12, 3), (5, 9)):
        x = torch.randn(steps, rows, 3, dtype=torch.float64)
        found, expected = (
            torch.autograd.grad(call(x), [*layer.parameters(), *head.parameters()]) for call in (compiled, model)
        )
        torch.testing.assert_close(found, expected)
        compilations.append(counter.frame_count)
    assert compilations[0] == compilations[-1]  # the first may start over, with the dropout rate as a number
