"""What a kernel is given: addresses and strides, in the order of ``Arguments`` in ``sizes.cuh``."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from gatewise.backends.cuda.design import Design, UnsuitableError

PATIENCE = 20_000_000
"""Looks at what others write before a kernel gives up: some ten seconds on a card of today."""
AHEAD = 6
"""Steps that inputs are fetched ahead: with none a step of 64,1024,512,512 took 1.42 µs instead of 1.13; 2 and 12 are
as good (one H200, an earlier design of the kernels)."""


_PLACE = struct.Struct("<QQ4i")


class Place(NamedTuple):
    """Where an array lies, step after step: address, bytes from step to step and from row to row. The slice of step
    ``special`` lies at another address; one of 0 means nowhere."""

    base: int
    step: int = 0
    row: int = 0
    special_base: int = 0
    special_row: int = 0
    special: int = -1

    @staticmethod
    def of(tensor: Tensor, backwards: bool = False) -> Place:
        """(slices, rows, width), walked from the first slice or from the last."""
        size = tensor.element_size()
        step, row = (stride * size for stride in tensor.stride()[:2])
        base = tensor.data_ptr()
        return Place(base + (tensor.shape[0] - 1) * step, -step, row) if backwards else Place(base, step, row)

    def packed(self) -> bytes:
        """As ``Place`` in ``sizes.cuh``."""
        return _PLACE.pack(self.base, self.special_base, self.step, self.row, self.special_row, self.special)

    def later(self, steps: int) -> Place:
        return self._replace(base=self.base + steps * self.step)

    def before(self, initial: Tensor | None) -> Place:
        """Of values that steps have written: those before each step. At the first that is the initial value, (rows,
        width); None: which nobody keeps."""
        special = (0, 0) if initial is None else (initial.data_ptr(), initial.stride(0) * initial.element_size())
        return self.later(-1)._replace(special_base=special[0], special_row=special[1], special=0)

    def turned(self, last: int) -> Place:
        """The other way round, from step ``last`` on."""
        special = -1 if self.special < 0 else last - self.special
        return self._replace(base=self.base + last * self.step, step=-self.step, special=special)


class Slab(NamedTuple):
    """An array and the memory that its rows lie in with others: what is fetched ahead."""

    place: Place
    whole: Place
    bytes: int
    """Of a row of the whole."""

    @staticmethod
    def of(tensor: Tensor, whole: Tensor, backwards: bool = False) -> Slab:
        return Slab(Place.of(tensor, backwards), Place.of(whole, backwards), whole.shape[-1] * whole.element_size())

    @staticmethod
    def columns(whole: Tensor, first: int, backwards: bool = False) -> Slab:
        """(slices, rows, width) from a column on."""
        place, size = Place.of(whole, backwards), whole.element_size()
        return Slab(place._replace(base=place.base + first * size), place, whole.shape[-1] * size)

    def before(self, initial: Tensor) -> Slab:
        return self._replace(place=self.place.before(initial), whole=self.whole.before(initial))

    def turned(self, last: int) -> Slab:
        return self._replace(place=self.place.turned(last), whole=self.whole.turned(last))

    @property
    def piece(self) -> Place | None:
        """The rows of a step as one piece of memory, where they are one and begin at a multiple of 16 bytes."""
        aligned = self.whole.base % 16 == self.whole.step % 16 == self.bytes % 16 == 0
        return self.whole if aligned and self.whole.row == self.bytes else None


NOWHERE = Place(0)


@dataclass
class Arguments:
    """One run of a design over all steps.

    ``inputs`` and the others are by the names that the design uses. What nobody keeps may be absent from
    ``vectors``, states from ``initial`` (zeros) and ``final``.
    """

    steps: int
    rows: int
    share: int
    """Rows of a set of blocks."""
    weights: Tensor
    constants: Tensor | None
    inputs: Mapping[str, Slab]
    outputs: Mapping[str, Place]
    vectors: Mapping[tuple[str, bool], Place]
    """By name, and whether it is the value of a carry."""
    initial: Mapping[str, Tensor]
    final: Mapping[str, Tensor]
    patience: int = PATIENCE
    ahead: int = AHEAD

    @property
    def sets(self) -> int:
        return -(-self.rows // self.share)

    def packed(self, design: Design, first: int, report: int) -> bytes:
        """As bytes. first: the first set of this launch. report: address of memory for the reason of a failure."""
        constants = 0 if self.constants is None else self.constants.data_ptr()
        head = struct.pack("<3Q6i", self.weights.data_ptr(), constants, report, *self._numbers(first))
        inputs = [self.inputs[name] for name in design.inputs]
        outputs = [self.outputs[o.name] for o in design.outputs]
        _check_alike([slab.place for slab in inputs], design.input_like)
        _check_alike(outputs, design.output_like)
        pieces = [p for p in dict.fromkeys(slab.piece for slab in inputs) if p is not None and p.row]
        places = [
            *_filled([slab.place for slab in inputs], 1),
            *_filled(outputs, 1),
            *_filled([self.vectors.get((v.name, v.carried), NOWHERE) for v in design.vectors], 1),
            *_filled(pieces, max(1, len(inputs))),
        ]
        try:
            body = b"".join([place.packed() for place in places])
        except struct.error as error:
            raise UnsuitableError("the values of a step take 2 GiB or more") from error
        states = [given.get(name) for given in (self.initial, self.final) for name in design.carries]
        return head + body + b"".join(struct.pack("<Q", 0 if s is None else s.data_ptr()) for s in states)

    def _numbers(self, first: int) -> tuple[int, ...]:
        return self.steps, self.rows, self.share, first, self.patience, self.ahead


def _check_alike(places: Sequence[Place], like: Sequence[int]) -> None:
    """The kernel takes the strides of the first for all that are alike."""
    for place, k in zip(places, like, strict=True):
        assert place[1:3] == places[k][1:3], f"arrays that are alike have other strides: {place}, {places[k]}"


def _filled(places: Sequence[Place], least: int) -> list[Place]:
    return [*places, *[NOWHERE] * (least - len(places))]
