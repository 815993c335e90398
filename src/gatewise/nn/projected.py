"""The LSTM whose output is projected in every step, in torch operations: no cell writes a product of a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gatewise.backends import kernels_asked_for
from gatewise.backends.autocast import linear


def sequence(
    x: Tensor,
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    valid: Tensor | None = None,
    cuts: Tensor | None = None,
    *,
    reverse: bool,
) -> tuple[Tensor, list[Tensor]]:
    """As ``gatewise.ops.run``: x (T, B, input_size), states h (B, proj_size) and c (B, hidden_size).

    Args:
        valid, cuts: (T, B, 1) bool: where it is False the states stay; where it is True they are zero before the step.

    Raises:
        RuntimeError: when the cpu backend was asked for by name.
    """
    refuse_by_name()
    h, c = states
    from_input = linear(x, parameters["weight_ih"], parameters.get("bias_ih")).unbind(0)
    outputs = []
    for t in range(len(x) - 1, -1, -1) if reverse else range(len(x)):
        before = h, c  # and not what a reset past the end of a row leaves
        if cuts is not None:
            h, c = torch.where(cuts[t], 0.0, h), torch.where(cuts[t], 0.0, c)
        gates = from_input[t] + linear(h, parameters["weight_hh"], parameters.get("bias_hh"))
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = linear(o.sigmoid() * c.tanh(), parameters["weight_hr"])
        if valid is not None:
            h, c = (torch.where(valid[t], new, old) for new, old in zip((h, c), before, strict=True))
        outputs.append(h)
    if reverse:
        outputs.reverse()
    return torch.stack(outputs) if outputs else h.new_empty((0, *h.shape)), [h, c]


def refuse_by_name() -> None:
    if kernels_asked_for():
        raise RuntimeError(
            f"the {kernels_asked_for()} backend computes no projected state, but the layer has a proj_size; "
            "use gatewise.backend('auto')"
        )
