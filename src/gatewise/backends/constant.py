"""What torch.compile takes as a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def constant(function: Callable[..., Any]) -> None:
    """Mark a function whose result torch.compile may compute once and keep.

    As ``torch.compiler.assume_constant_result``, which also imports torch.compile itself: 1.5 of the 3 seconds of
    processor time that ``import gatewise`` took.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
