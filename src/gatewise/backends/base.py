"""What a backend is, and what a machine gives the kernels' floor.

A *backend* is a way to run a cell: the registry (``backends``) asks each in turn whether it can. A *machine* is what
``kernels`` needs to turn plans into a call: threads to count with and programs to fill (see ``kernels.program``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gatewise.backends.kernels.program import Program
from gatewise.compiler.cell import Cell
from gatewise.compiler.schedule import Plan


class Choice(NamedTuple):
    """A backend, the instruction tier where it has several, and the reason in words."""

    name: str
    tier: str
    reason: str
    matrix: bool = False
    """Whether products are taken in bfloat16 or of bytes, from weights that kernels round as they pack them."""

    def __str__(self) -> str:
        return f"{self.name}/{self.tier}" if self.tier else self.name


class CallFacts(Protocol):
    """What is said beside tensors."""

    tier: str
    reverse: bool
    training: bool
    recompute: bool
    names: tuple[str, ...]
    counts: tuple[int, ...]
    """Operands, inputs and states among the tensors; the parameters come behind them."""


Meaning = Callable[[], tuple[Cell, CallFacts]]
"""Of an identity: asked for when its program is built."""


class Arriving(NamedTuple):
    """What a backward is given, and which gradients are wanted, one after another of the tensors."""

    tensors: Sequence[Tensor]
    y: Tensor
    saved: Tensor
    dy: Tensor | None
    finals: Sequence[Tensor | None]
    wanted: Sequence[bool]

    def whole(self) -> tuple[Tensor, ...]:
        """All tensors, in the order in which a program names them."""
        return (*self.tensors, self.y, self.saved, *[t for t in (self.dy, *self.finals) if t is not None])

    def key(self) -> tuple[object, ...]:
        """What a program depends on beside these tensors."""
        return (tuple(self.wanted), *[t is None for t in (self.dy, *self.finals)])

    def matters(self) -> bool:
        """Whether a gradient arrives, and one is wanted."""
        return any(t is not None for t in (self.dy, *self.finals)) and any(self.wanted)


class Machine(Protocol):
    """What the floor of kernels works on."""

    def threads(self) -> int:
        """How many share the work now: what a program depends on beside sizes and strides."""

    def program(self, tier: str, dtype: torch.dtype) -> Program:
        """An empty program."""

    def idle(self, plan: Plan, steps: int, rows: int, units: int, widths: Mapping[str, int], size: int) -> bool:
        """Whether a call leaves so much of the machine idle that several are faster side by side, a thread each.

        Args:
            plan: of its steps; widths: of its operands, where they are not ``units``. size: bytes of a number.
        """


class Together(Protocol):
    """What runs several calls of one cell on tensors of the same sizes side by side; see ``kernels.together``."""

    def pays(self, cell: Cell, steps: int, rows: int, columns: int, units: int, size: int) -> bool:
        """Whether that is faster than one after another now; ``size``: bytes of a number."""

    def forward(
        self, identity: Sequence[str], meanings: Sequence[Meaning], groups: Sequence[Sequence[Tensor]]
    ) -> list[list[Tensor]]:
        """The operator ``gatewise::forward`` of each; ``identity`` is the cell's text, then the options of each."""

    def backward(
        self, identity: Sequence[str], meanings: Sequence[Meaning], arriving: Sequence[Arriving]
    ) -> list[list[Tensor | None]]:
        """The operator ``gatewise::backward`` of each."""

    def stack(
        self, identity: tuple[str, str], meaning: Meaning, x: Tensor, groups: Sequence[Sequence[Tensor]]
    ) -> list[list[Tensor]]:
        """The operator ``gatewise::forward`` of layers that read nothing but x, or the output of the one below.

        Args:
            identity: the cell's text, and the options of every layer. groups: the states and parameters of each.
        """

    def stack_backward(
        self, identity: tuple[str, str], meaning: Meaning, arriving: Sequence[Arriving]
    ) -> list[list[Tensor | None]]:
        """The operator ``gatewise::backward`` of these layers, the lowest first, which keep what their gates were. To
        the output of each but the last arrives what the one above finds, of which the gradient of x is wanted."""


class Engine(Protocol):
    """What computes the steps of a stream."""

    @property
    def states(self) -> Tensor:
        """The memory of the states itself, (states, layers, batch, hidden_size)."""

    @property
    def remark(self) -> str:
        """What ``.backend`` says behind the reason; empty where a step of all layers is one native call."""

    def pack(self, parameters: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over weights, by value."""

    def step(self, x: Tensor, out: Tensor, given: Sequence[Tensor]) -> None:
        """One step of all layers; ``given`` are the cell's keyword inputs."""


class Backend(Protocol):
    """A way to run a cell by kernels."""

    @property
    def name(self) -> str:
        """As users write it."""

    @property
    def dispatch_key(self) -> str:
        """Under which torch's dispatcher asks for its operators."""

    @property
    def together(self) -> Together | None:
        """What runs several calls side by side; None where calls run one after another."""

    def offer(self, device: str, dtype: torch.dtype, half_products: bool) -> tuple[str, str, bool]:
        """What it makes of calls on tensors of this kind of device and dtype.

        Args:
            half_products: whether products may be taken in bfloat16.

        Returns:
            Why it cannot run them, empty where it can; the tier that they take; whether its products are in bfloat16.
        """

    def offer_bytes(self, device: str, dtype: torch.dtype, tier: str | None) -> tuple[str, str]:
        """What it makes of calls whose products are of bytes, with sums in 32 bits (see ``quantization.grid``): why it
        cannot run them, empty where it can; the tier that they take, which belongs to ``tier`` where one was asked
        for by name."""

    def roomless(self, cell: Cell, tier: str, device: torch.device, units: int) -> str:
        """Why a machine that runs such calls has no room for this cell with so many units; empty where it has."""

    def check_tier(self, tier: str) -> None:
        """Refuse a tier that this machine cannot run.

        Raises:
            ValueError: with the tiers that it can.
        """

    def kept_dtype(self, tier: str, dtype: torch.dtype) -> torch.dtype:
        """Of what ``forward`` keeps for a backward, for tensors of this dtype."""

    def forward(
        self, identity: tuple[str, str], tier: str, meaning: Meaning, tensors: Sequence[Tensor]
    ) -> list[Tensor]:
        """The operator ``gatewise::forward``; see ``kernels.calls``."""

    def trace(
        self, identity: tuple[str, str], tier: str, meaning: Meaning, tensors: Sequence[Tensor], gates: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The operator ``gatewise::trace``."""

    def backward(
        self,
        identity: tuple[str, str],
        tier: str,
        meaning: Meaning,
        tensors: Sequence[Tensor],
        y: Tensor,
        saved: Tensor,
        dy: Tensor | None,
        finals: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """The operator ``gatewise::backward``."""

    def steps(
        self,
        cell: Cell,
        tier: str,
        dtype: torch.dtype,
        sizes: tuple[int, int, int],
        parameters: Sequence[Mapping[str, Tensor]],
        halves: bool,
        threads: int | None,
    ) -> Engine:
        """The engine of a stack of layers of one cell.

        Args:
            sizes: columns of x, rows of the batch, units. parameters: of every layer, by the names of
                ``Cell.parameter_shapes``. halves: whether they were rounded to bfloat16. threads: at most; None for
                torch's number at each step.
        """

    def report(self) -> dict[str, object]:
        """What ``gatewise info`` prints of it; under its own name a sentence on what it runs."""
