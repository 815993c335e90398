"""What a card has room for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

REGISTERS = 65536
"""Of a multiprocessor, on every card since Kepler."""
MOST_REGISTERS = 255
"""Of a thread."""
PROVED = ("sm_90a",)
"""Architectures whose kernels ran on a card and agreed with float64: an H200."""
TOO_OLD = "the cuda backend needs a GPU of compute capability 8.0 or later, got {}.{}"


@dataclass(frozen=True)
class Card:
    """Figures that the driver gives; a layout is chosen by them."""

    architecture: str
    """What code is compiled for, as ``sm_90a``."""
    multiprocessors: int
    shared: int
    """Bytes of shared memory that a block may have."""
    clusters: Mapping[int, int] = field(default_factory=dict)
    """For each size of a cluster, how many fit at once with one block on a multiprocessor; empty before Hopper."""

    def __hash__(self) -> int:
        return hash((self.architecture, self.multiprocessors, self.shared, *self.clusters.items()))


def architecture(major: int, minor: int) -> str:
    """The name for NVRTC of a card's compute capability; empty for cards that the kernels were not written for."""
    if (major, minor) == (9, 0):
        return "sm_90a"
    return f"sm_{major}{minor}" if major >= 8 else ""
