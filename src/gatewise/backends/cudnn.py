"""torch's own RNNs for torch's own formulas, where no kernel of ours runs on a GPU: there torch calls cuDNN.

Not a backend, since it computes four cells and nothing of what layers do around them, but a way that ``choose`` finds
between the kernels and ``eager``. On the processor the same functions run without cuDNN: so tests hold them against
``eager``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gatewise import cells
from gatewise.backends.autocast import autocast_dtype
from gatewise.compiler.cell import Cell

NAME = "cudnn"
FORMULAS: dict[str, tuple[str, Callable[..., Any]]] = {
    cells.gru_reset_after.body(): ("GRU", torch.gru),
    cells.lstm.body(): ("LSTM", torch.lstm),
    cells.rnn.body(): ("RNN", torch.rnn_tanh),
    cells.rnn_relu.body(): ("RNN with relu", torch.rnn_relu),
}
"""By the equations: what torch calls it, and its function."""
DTYPES = (torch.float32, torch.float16)
"""Of calls; a layer in bfloat16 calls in float32, and float64 stays with the reference."""


def formula(cell: Cell, device: str, dtype: torch.dtype) -> str:
    """What torch calls the formula that its RNNs compute for such a call; empty where they are not used."""
    if device != "cuda" or dtype not in DTYPES:
        return ""
    return FORMULAS[cell.body()][0] if cell.body() in FORMULAS else ""


def enabled() -> bool:
    """Whether torch may call cuDNN; ``torch.backends.cudnn.flags(enabled=False)`` leaves calls to ``eager``."""
    return torch.backends.cudnn.enabled and torch.backends.cudnn.is_available()


def report() -> str:
    """What ``gatewise info`` prints of it."""
    if not enabled():
        return "torch has no cuDNN here, which would run its own formulas on a GPU where no kernel does"
    named = ", ".join(name for name, _ in FORMULAS.values())
    return f"torch's own formulas ({named}) on a GPU, in float32 and float16, where no kernel runs them"


def suits(x: Tensor, state: Tensor) -> bool:
    """Whether sizes are such that torch computes them: none may be zero."""
    return x.numel() > 0 and state.numel() > 0


def sequence(
    cell: Cell, x: Tensor, states: Sequence[Tensor], parameters: Mapping[str, Tensor], *, reverse: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """As ``eager.sequence``. Derivatives are torch's, so there is no second one on a GPU.

    Under torch.autocast nothing is rounded, as elsewhere: layers have rounded already.
    """
    function = FORMULAS[cell.body()][1]
    first = [state.unsqueeze(0).contiguous() for state in states]
    given = first[0] if len(first) == 1 else first
    # cuDNN keeps what its backward needs in training alone.
    how = (_weights(cell, parameters), True, 1, 0.0, torch.is_grad_enabled(), False, False)
    with torch.autocast(x.device.type, enabled=False) if autocast_dtype(x.device) else nullcontext():
        y, *finals = function(x.flip(0) if reverse else x, given, *how)
    return y.flip(0) if reverse else y, [final.squeeze(0) for final in finals]


@lru_cache(maxsize=64)
def _blocks(cell: Cell, name: str) -> tuple[int | None, ...]:
    """For each gate of torch's order the block that a bias has for it."""
    own = cell.rows(name)
    return tuple(own.index(gate) if gate in own else None for gate in cell.rows("weight_hh"))


def _weights(cell: Cell, parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """As torch's functions take them, side by side in one piece of memory, in which cuDNN reads them as they are: else
    torch warns and copies. To cuDNN biases belong to it always."""
    found = [parameters["weight_ih"], parameters["weight_hh"]]
    found += [_bias(cell, name, parameters.get(name), found[0]) for name in ("bias_ih", "bias_hh")]
    whole, shapes = torch.cat([part.reshape(-1) for part in found]), [part.shape for part in found]
    parts = whole.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _bias(cell: Cell, name: str, given: Tensor | None, weight: Tensor) -> Tensor:
    """With a block for every gate: those that a cell has no use for are zero."""
    rows = weight.shape[0]
    if given is None or given.shape[0] == rows:
        return weight.new_zeros(rows) if given is None else given
    units = rows // len(cell.rows("weight_hh"))
    blocks = _blocks(cell, name)
    return torch.cat([weight.new_zeros(units) if k is None else given[k * units : (k + 1) * units] for k in blocks])
