"""A machine without a card: kernels as host C++ over the emulation in ``emulation/``, and a GPU's host code."""

import ctypes
import hashlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from comparing import Problem, prepared, through_prologue
from compiling import CPP, library
from torch import Tensor

from gatewise.backends.cuda.arguments import Arguments
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.gradients import backward
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.pack import Weights
from gatewise.backends.cuda.sequence import INFERENCE, TRAINING, Call, Machine, forward
from gatewise.backends.cuda.source import kernel, packing, skeleton

FOLDER = Path(__file__).parent / "emulation"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-Wall", "-Wno-unknown-pragmas")
OUTCOMES = {
    1: "a kernel gave up",
    2: "threads wait for each other",
    3: "a fault, see standard error",
    4: "the layout's sizes differ",
}


Lay = Callable[[Design, Number, int, int], Layout]


class EmulationError(Exception):
    """A run that did not end well."""


@lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory:  # type: ignore[type-arg]
    return tempfile.TemporaryDirectory(prefix="gatewise-emulated-", ignore_cleanup_errors=True)


@cache  # a kernel that was forgotten would be built again, into the folder of the first
def built(source: str, changed: tuple[tuple[str, str, str], ...] = (), runner: str = "emulate.h") -> ctypes.CDLL:
    """A kernel's source as a library, and what runs it; ``changed``: a file, a text in it, and what stands there
    instead."""
    files = skeleton() | {file.name: file.read_text() for file in FOLDER.iterdir()}
    for name, old, new in changed:
        assert files[name].count(old) == 1, f"{old!r} stands {files[name].count(old)} times in {name}"
        files[name] = files[name].replace(old, new)
    digest = hashlib.sha256(repr((source, sorted(files.items()))).encode()).hexdigest()[:16]
    folder = Path(_folder().name) / digest
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    unit = folder / "kernel.cpp"
    unit.write_text(f'{source}\n#include "{runner}"\n')
    return library(unit, CPP, FLAGS)


@dataclass
class Emulator:
    """See ``sequence.Machine``.

    Args:
        lay: the layout of a design, a number type, and so many units and rows.
    """

    lay: Lay
    seed: int = 0
    eager: bool = False
    patience: int = 1_000_000
    changed: tuple[tuple[str, str, str], ...] = ()
    at_once: int = 0
    """Sets that a launch has room for; 0: all."""
    missing: int = 0
    """Blocks at the end of a launch that are left out, though they are waited for."""
    reports: list[tuple[int, ...]] = field(default_factory=list)

    def layout(self, design: Design, number: Number, units: int, rows: int) -> Layout:
        return self.lay(design, number, units, rows)

    def pack(self, weights: Weights, layout: Layout) -> Tensor:
        changed = tuple(change for change in self.changed if change[0] == "pack.cuh")
        code = built(packing(layout.number), changed, "emulate_pack.h")
        size = weights.tiles * layout.pieces * layout.number.chunk
        packed = torch.full((size,), torch.nan, dtype=layout.number.dtype)  # what nobody writes shows
        for blocks, given in weights.launches(layout, packed.data_ptr()):
            assert len(given) == code.arguments_bytes()
            outcome = code.emulate(given, blocks)
            if outcome:
                raise EmulationError(OUTCOMES[outcome])
        return packed

    def launch(self, design: Design, layout: Layout, arguments: Arguments) -> None:
        code = built(kernel(design, layout), self.changed)
        arguments.patience = self.patience
        at_once = self.at_once or arguments.sets
        for first in range(0, arguments.sets, at_once):
            report = (ctypes.c_uint * 4)()
            given = arguments.packed(design, first, ctypes.addressof(report))
            assert len(given) == code.arguments_bytes()
            blocks = min(at_once, arguments.sets - first) * layout.blocks - self.missing
            cluster = layout.blocks if layout.exchange is Exchange.CLUSTER else 1
            outcome = code.emulate(
                given,
                blocks,
                layout.threads,
                cluster,
                layout.shared(design),
                ctypes.c_ulonglong(self.seed + first),
                int(self.eager),
            )
            if outcome:
                self.reports.append(tuple(report))
                raise EmulationError(OUTCOMES[outcome])


def small(exchange: Exchange, *, blocks: int = 2, shares: int = 2, room: int = 2, **more: Any) -> Lay:
    """Layouts for small sizes. ``room``: tiles of 8 rows at most; ``more``: fields of the layout, or functions of the
    number of groups in a block (``together``) and of double tiles (``resident``)."""

    def lay(design: Design, number: Number, units: int, rows: int) -> Layout:
        own = 1 if exchange is Exchange.ALONE else blocks
        groups = math.ceil(math.ceil(units / 16) / own)
        steps = math.ceil(math.ceil(units / 16) * 16 / (shares * number.depth))
        given = {"together": 1, "resident": 0} | more
        given["together"] = min(groups, given["together"]) if groups % given["together"] == 0 else 1
        given["resident"] = min(steps, given["resident"])
        tiles = min(room, math.ceil(rows / 8))
        serial = given.pop("serial", False) and len(design.vectors) > 1
        return Layout(number, units, exchange, own, groups, shares=shares, tiles=tiles, serial=serial, **given)

    return lay


def results(machine: Machine, p: Problem, number: Number, *, inference: bool = False) -> dict[str, Tensor]:
    """As ``comparing.evaluate``; and with ``inference`` that of a forward that keeps nothing."""
    cell = p.case.cell
    given = prepared(p)
    _, operands, inputs = given
    call = Call(
        cell,
        number,
        [value.detach() for value in operands.values()],
        {name: value.detach() for name, value in inputs.items()},
        list(p.of("state.").values()),
        {n: v for n, v in p.parameters().items() if not n.startswith("vector_")},
        p.case.steps,
        p.case.reverse,
    )
    found = {"inference y": forward(machine, call, INFERENCE).y} if inference else {}
    kept = forward(machine, call, TRAINING)
    finals = zip(cell.states, kept.finals, strict=True)
    found |= {"y": kept.y} | {f"final.{s}": value for s, value in finals}
    d = backward(machine, call, kept, p.cotangents.get("y"), [p.cotangents.get(s) for s in cell.states])
    summed = {}
    for name, value in inputs.items():
        term = d.inputs.get(name)
        if term is None:
            summed[name] = torch.zeros_like(value)
        else:
            summed[name] = term if value.shape[-1] == term.shape[-1] != 1 else term.sum(-1, keepdim=True)
    found |= through_prologue(p, given, [g.to(p.case.dtype) for g in d.operands], as_dtype(summed, p.case.dtype))
    found |= {f"d.{n}": g for n, g in d.parameters.items()}
    found |= {f"d.state.{s}": g for s, g in zip(cell.states, d.states, strict=True)}
    return {name: value.detach() for name, value in found.items()}


def as_dtype(named: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(dtype) for name, value in named.items()}
