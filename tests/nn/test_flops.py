"""What torch's FlopCounterMode counts: the same for our layers as for torch.nn's, and for every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_problems import flat
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import gatewise as gw
from gatewise import cells

DTYPE = torch.float64  # torch counts none for its LSTM in float32
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "gru": (nn.GRU, lambda *a, **k: gw.GRU(*a, **k, reset_after=True)),
    "lstm": (nn.LSTM, gw.LSTM),
    "rnn": (nn.RNN, gw.RNN),
}


def counts(layer: nn.Module, *shape: int, states: int = 0, wanted: bool = False, **inputs: Any) -> tuple[int, int, Any]:
    """Forward and backward, and the names of the modules that were counted."""
    x = torch.randn(*shape, dtype=DTYPE, requires_grad=wanted)
    hx = [torch.randn(1, shape[1], 7, dtype=DTYPE, requires_grad=wanted) for _ in range(states)]
    with FlopCounterMode(display=False) as counter:
        values = flat(layer(x, None if not hx else hx[0] if states == 1 else tuple(hx), **inputs))
        forward = counter.get_total_flops()
        sum(v.sum() for v in values).backward()
    return forward, counter.get_total_flops() - forward, set(counter.get_flop_counts())


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}], ids=str)
def test_torchs_counts(kind: str, given: bool, options: dict[str, Any]) -> None:
    states = {"lstm": 2}.get(kind, 1) if given and not options else 0
    theirs, ours = (
        counts(make(4, 7, dtype=DTYPE, **options), 5, 3, 4, states=states, wanted=given) for make in PAIRS[kind]
    )
    assert ours == theirs
    assert ours[0] > 0


def test_frozen_weights_and_a_single_step() -> None:
    found = []
    for make in PAIRS["lstm"]:
        layer = make(4, 7, dtype=DTYPE)
        layer.weight_ih_l0.requires_grad_(False)
        found.append(counts(layer, 5, 3, 4, wanted=True))
    assert found[0] == found[1]
    x = torch.randn(3, 4)
    with FlopCounterMode(display=False) as counter:
        gw.GRUCell(4, 7)(x)
    assert counter.get_flop_counts()["GRUCell"] == {torch.ops.gatewise.forward: 2 * 3 * 21 * 11}


@pytest.mark.parametrize("name", ["gru", "lstm_peephole", "augru", "gru_d"])
@pytest.mark.parametrize("wanted", [False, True])
def test_kernels_count_as_the_equations_do(name: str, wanted: bool) -> None:
    cell = cells.get(name)
    layer = gw.Recurrent(cell, 4, 7, dtype=DTYPE)
    widths = {"input": 4, "hidden": 7}
    inputs = {k: torch.rand(5, 3, widths.get(str(w)) or int(w), dtype=DTYPE) for k, w in cell.inputs}
    found = []
    for backend in ("cpu", "eager"):
        with gw.backend(backend):
            found.append(counts(layer, 5, 3, 4, states=len(cell.states), wanted=wanted, **inputs))
    assert found[0] == found[1]


def test_recomputation_is_counted() -> None:
    plain, again = (counts(gw.GRU(4, 7, recompute=r, dtype=DTYPE), 5, 3, 4) for r in (False, True))
    assert again[1] == plain[1] + plain[0]
