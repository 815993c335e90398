"""The LSTM whose output is projected in every step, in torch operations: no cell writes a product of a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.backends import wish


def sequence(
    x: Tensor, states: Sequence[Tensor], parameters: Mapping[str, Tensor], *, reverse: bool
) -> tuple[Tensor, list[Tensor]]:
    """As ``gatewise.ops.run``: x (T, B, input_size), states h (B, proj_size) and c (B, hidden_size).

    Raises:
        RuntimeError: when the cpu backend was asked for by name.
    """
    refuse_by_name()
    h, c = states
    from_input = F.linear(x, parameters["weight_ih"], parameters.get("bias_ih")).unbind(0)
    outputs = []
    for step in reversed(from_input) if reverse else from_input:
        gates = step + F.linear(h, parameters["weight_hh"], parameters.get("bias_hh"))
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = F.linear(o.sigmoid() * c.tanh(), parameters["weight_hr"])
        outputs.append(h)
    if reverse:
        outputs.reverse()
    return torch.stack(outputs) if outputs else h.new_empty((0, *h.shape)), [h, c]


def refuse_by_name() -> None:
    if wish()[0] == "cpu":
        raise RuntimeError(
            "the cpu backend computes no projected state, but the layer has a proj_size; use gatewise.backend('auto')"
        )
