"""What scripts do with the insides of torch.nn's layers: lists of weights and their names, pruning, dropped weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import gatewise as gw

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "gru": (nn.GRU, lambda *a, **k: gw.GRU(*a, **k, reset_after=True)),
    "lstm": (nn.LSTM, gw.LSTM),
    "rnn": (nn.RNN, gw.RNN),
}
EACH = pytest.mark.parametrize("kind", PAIRS)
X = torch.linspace(-1, 1, 24).view(3, 2, 4)


def pair(kind: str, **options: Any) -> tuple[Any, Any]:
    theirs, ours = (make(4, 7, **options) for make in PAIRS[kind])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@EACH
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
def test_lists_of_weights_and_of_their_names(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = pair(kind, **options)
    assert ours._all_weights == theirs._all_weights
    assert ours._flat_weights_names == theirs._flat_weights_names
    for mine, other in zip(ours._flat_weights, theirs._flat_weights, strict=True):
        assert torch.equal(mine, other)


@EACH
def test_pruning(kind: str) -> None:
    found = []
    for layer in pair(kind):
        for name in layer._flat_weights_names[:2]:
            prune.l1_unstructured(layer, name, 0.5)
        y = layer(X)[0]
        y.square().sum().backward()
        found.append([y, layer.weight_hh_l0, *(p.grad for _, p in sorted(layer.named_parameters()))])
        prune.remove(layer, "weight_hh_l0")
        found[-1].append(layer(X)[0])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    assert 0.4 < (found[1][1] == 0).float().mean() < 0.6


@EACH
def test_dropped_weights(kind: str) -> None:
    """Merity et al. 2018 (arXiv 1708.02182), sec. 2: the weight is replaced by one with zeros before each call."""
    found = []
    for layer in pair(kind):
        raw = nn.Parameter(layer.weight_hh_l0.detach())
        del layer._parameters["weight_hh_l0"]
        torch.manual_seed(0)
        layer.weight_hh_l0 = F.dropout(raw, 0.5)
        layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]
        y = layer(X)[0]
        found.append([y, *torch.autograd.grad(y.square().sum(), raw)])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_other_lists_of_weights_are_refused() -> None:
    layer = gw.GRU(4, 7)
    for weights in ([w.clone() for w in layer._flat_weights], layer._flat_weights[1:]):
        with pytest.raises(AttributeError, match=r"set those by their names, such as weight_ih_l0"):
            layer._flat_weights = weights
