"""Small layers with random inputs and states, and everything that they give: for tests of what goes along with x."""

from typing import Any

import torch
from torch import Tensor

import gatewise as gw
from gatewise import cells

STEPS, BATCH, INPUT, HIDDEN = 6, 4, 3, 5
LAYERS = {
    "gru": lambda **k: gw.GRU(INPUT, HIDDEN, **k),
    "lstm": lambda **k: gw.LSTM(INPUT, HIDDEN, **k),
    "peephole": lambda **k: gw.Recurrent(cells.lstm_peephole, INPUT, HIDDEN, **k),
}
STACKS: dict[str, dict[str, Any]] = {
    "one": {},
    "both ways": {"bidirectional": True},
    "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


def tuple_of(states: Any) -> tuple[Tensor, ...]:
    return states if isinstance(states, tuple) else (states,)


def packed_states(states: list[Tensor]) -> Any:
    return states[0] if len(states) == 1 else tuple(states)


def problem(layer: gw.Recurrent, steps: int = STEPS, batch: int = BATCH) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(1)
    dtype = next(layer.parameters()).dtype
    lead = (batch, steps) if layer.batch_first else (steps, batch)
    rows = layer.num_layers * layer.num_directions
    return torch.randn(*lead, INPUT, dtype=dtype), [
        torch.randn(rows, batch, HIDDEN, dtype=dtype) for _ in layer.cell.states
    ]


def results(layer: gw.Recurrent, x: Tensor, states: list[Tensor], **more: Any) -> dict[str, Tensor]:
    """Output, final states and the gradients of a loss that weighs every number of them differently."""
    x, states = x.clone().requires_grad_(), [s.clone().requires_grad_() for s in states]
    y, final = layer(x, packed_states(states), **more)
    found = {"y": y, **{f"final{k}": f for k, f in enumerate(tuple_of(final))}}
    loss = sum((v * torch.arange(v.numel(), dtype=v.dtype).reshape(v.shape).sin()).sum() for v in found.values())
    leaves = [x, *states, *layer.parameters()]
    names = ["x", *(f"h{k}" for k in range(len(states))), *dict(layer.named_parameters())]
    grads = torch.autograd.grad(loss, leaves)
    return {k: v.detach() for k, v in found.items()} | {f"d.{n}": g for n, g in zip(names, grads, strict=True)}


def flat(result: Any) -> list[Tensor]:
    """All tensors of a layer's result, in order."""
    return [result] if isinstance(result, Tensor) else [t for part in result for t in flat(part)]
