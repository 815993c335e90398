"""What torch.autocast asks for, and products that it leaves alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.torch_internals import any_autocast


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype that torch.autocast asks for on a device; None outside of it. torch.compile traces this as a constant
    that it guards."""
    if not any_autocast():
        return None
    kind = device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):  # which torch refuses to answer for meta
        return None
    return torch.get_autocast_dtype(kind)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` in the dtype of its arguments under torch.autocast too, which would round each product."""
    if autocast_dtype(x.device) is None:
        return F.linear(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x, weight, bias)
