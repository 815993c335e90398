"""How a cell is laid out on a card: which block has which units and rows, and what is in registers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch

from gatewise.backends.cuda.design import Design


class Number(Enum):
    """What a kernel computes with; see ``numbers.cuh``."""

    BFLOAT16 = ("Bfloat16", torch.bfloat16, 32)
    HALF = ("Half", torch.float16, 32)
    TF32 = ("Tf32", torch.float32, 16)
    DOUBLE = ("Double", torch.float64, 8)

    def __init__(self, cpp: str, dtype: torch.dtype, depth: int) -> None:
        self.cpp, self.dtype = cpp, dtype
        self.depth = depth
        """Columns of an operand that four lanes read together."""
        self.bytes = dtype.itemsize
        self.chunk = 16 // self.bytes
        """Numbers that a lane reads together."""
        self.real = torch.float64 if dtype == torch.float64 else torch.float32
        """Of sums and states."""


class Exchange(Enum):
    """How blocks with the same rows tell each other their values; see ``sizes.cuh``."""

    ALONE = "alone"
    CLUSTER = "cluster"
    CACHE = "cache"


@dataclass(frozen=True)
class Layout:
    """The parameters of a kernel. ``H`` below is the number of units rounded up to a multiple of 16."""

    number: Number
    units: int
    exchange: Exchange
    blocks: int
    """Blocks that share rows of the batch and have all units together: a set."""
    groups: int
    """Groups of 16 units of a block."""
    together: int
    """Groups that a warp multiplies: with more, an operand is read from shared memory less often."""
    shares: int
    """Warps that take the columns of a product in parts."""
    tiles: int
    """Tiles of 8 rows of the batch."""
    resident: int
    """Double tiles of columns whose weights are in registers; the others are in shared memory."""
    serial: bool = False
    """Whether vectors are taken one at a time, where they do not fit into shared memory together (cache only)."""
    share: int = 0
    """Rows of the batch that a set takes; 0: as many as there is room for. No part of the source."""
    flight: int = 4
    """Loads of a thread that are on their way together, in polling."""

    @property
    def width(self) -> int:
        return -(-self.units // 16) * 16

    @property
    def warps(self) -> int:
        return self.groups // self.together * self.shares

    @property
    def threads(self) -> int:
        return 32 * self.warps

    @property
    def steps(self) -> int:
        """Double tiles of columns that a warp multiplies."""
        return -(-self.width // (self.shares * self.number.depth))

    @property
    def pieces(self) -> int:
        """Pieces of 16 bytes of a packed weight."""
        return self.blocks * self.groups * self.shares * self.steps * 64

    @property
    def rows(self) -> int:
        """Rows of the batch that a block has room for."""
        return 8 * self.tiles

    def shared(self, design: Design) -> int:
        """Bytes of shared memory of a block; as ``Sizes::shared``."""
        n, size = self.number, self.number.bytes
        columns = self.steps * self.shares * n.depth
        stride = columns * size + (64 if columns * size % 128 == 0 else 0)
        buffers = 1 if self.exchange is Exchange.CACHE else 2
        events = [sum(v.event == e for v in design.vectors) for e in range(design.phases)]
        sums = max(1, *(len(design.sums(p + 1)) for p in range(design.phases)))
        total = buffers * (1 if self.serial else len(design.vectors)) * self.rows * stride
        total += self.warps * self.together * len(design.tiles) * (self.steps - self.resident) * 1024
        total += self.groups * self.shares * sums * self.tiles * 160 * n.real.itemsize
        total += max(1, *events) * self.rows * self.groups * 16 * size + 24 * len(design.inputs)
        return total + (design.phases * 16 if self.exchange is Exchange.CLUSTER else 0)

    def source(self) -> str:
        """The struct that the skeleton takes."""
        names = ("units", "blocks", "groups", "together", "shares", "tiles", "resident", "flight")
        numbers = ", ".join(f"{name} = {getattr(self, name)}" for name in names)
        return "\n".join(
            [
                "struct Layout {",
                "    using Number = ::Number;",
                f"    static constexpr Exchange exchange = Exchange::{self.exchange.value};",
                f"    static constexpr int {numbers};",
                f"    static constexpr bool serial = {str(self.serial).lower()};",
                "};",
            ]
        )
