"""What kernels read and write: nothing outside of the tensors, and what is not a number stays in its row."""

import contextlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import fenced
import pytest
import torch
from comparing import Case, Problem, evaluate, problem, same_bits, threads
from kernel_cells import ALL

from gatewise import Cell
from gatewise.backends.cpu import pages
from gatewise.backends.cpu.program import CpuProgram
from gatewise.backends.kernels import recipe
from gatewise.backends.kernels.memory import Memory
from gatewise.backends.kernels.program import ALIGNMENT, UNIT

pytestmark = pytest.mark.usefixtures("poisoned")

FEW = [ALL[name] for name in ("gru", "lstm", "driven", "halves")]
few_cells = pytest.mark.parametrize("cell", FEW, ids=lambda c: c.name)


@few_cells
@pytest.mark.parametrize(("what", "value"), [("x", math.nan), ("x", math.inf), ("state.h", math.nan)])
def test_one_row_is_not_a_number(cell: Cell, what: str, value: float) -> None:
    """It stays in its row of results, inputs' and states' gradients, and shows where it shows in the reference."""
    p = problem(Case(cell, batch=7))
    clean = evaluate(p, "cpu")
    row, others = 4, [0, 1, 2, 3, 5, 6]
    spoilt = {k: v.clone() for k, v in p.tensors.items()}
    (spoilt[what][1, row] if what == "x" else spoilt[what][row])[2] = value
    q = Problem(p.case, spoilt, p.cotangents)
    found, expected = evaluate(q, "cpu"), evaluate(q, "eager")
    for name, values in found.items():
        assert torch.equal(values.isfinite(), expected[name].isfinite()), name
        if name in ("y", "d.x") or name.startswith("d.in."):
            same_bits({name: clean[name][:, others]}, {name: values[:, others]})
        elif name.startswith(("final.", "d.state.")):
            same_bits({name: clean[name][others]}, {name: values[others]})
    assert not all(values.isfinite().all() for values in found.values())


@pytest.mark.parametrize("cell", FEW[:3], ids=lambda c: c.name)
@pytest.mark.parametrize("hidden", [1, 40])
def test_nothing_is_written_outside(cell: Cell, hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor that kernels write stands between two stretches of a mark, which stays."""
    made: list[tuple[torch.Tensor, int, int]] = []
    take, call = CpuProgram.take, CpuProgram.__call__
    guards: dict[CpuProgram, list[int]] = {}

    def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        margin, count = 256, math.prod(shape)
        memory = torch.full([count + 2 * margin], 7.25 if dtype.is_floating_point else 7, dtype=dtype)
        memory[margin : margin + count] = math.nan if dtype.is_floating_point else 255
        made.append((memory, margin, count))
        return memory[margin : margin + count].view(shape)

    def guarded(self: CpuProgram, *shape: int) -> Memory:
        """Scratch memory stands between stretches, too."""
        before, memory, after = take(self, 64), take(self, *shape), take(self, 64)
        guards.setdefault(self, []).extend(m.base - UNIT for m in (before, after))
        return memory

    def checked(self: CpuProgram, tensors: list[torch.Tensor]) -> None:
        call(self, tensors)
        memory, margin, _ = made[-1]
        first = margin + -(memory.data_ptr() + margin) % ALIGNMENT
        for at in guards[self]:
            assert (memory[first + at : first + at + 64 * self.size] == 255).all()

    monkeypatch.setattr(pages, "like", lambda prototype: empty(prototype.shape, prototype.dtype))
    monkeypatch.setattr(CpuProgram, "take", guarded)
    monkeypatch.setattr(CpuProgram, "__call__", checked)
    monkeypatch.setattr(CpuProgram, "temporary", lambda self: contextlib.nullcontext())
    monkeypatch.setattr(recipe, "_recipes", {})
    expected = None
    for count in (1, 2):
        with threads(count):
            found = evaluate(problem(Case(cell, hidden=hidden, batch=5, inputs=33)), "cpu")
        assert all(values.isfinite().all() for values in found.values())
        expected = expected or found
        same_bits(found, expected)
    assert len(made) >= 2 * (2 + len(cell.states))
    for memory, margin, size in made:
        mark = 7.25 if memory.dtype.is_floating_point else 7
        assert (memory[:margin] == mark).all()
        assert (memory[margin + size :] == mark).all()


def touch_nothing_else() -> None:
    """Runs in a process of its own, which dies when a kernel reads or writes beyond an edge."""
    real = pages.empty
    for name in ("gru", "lstm", "driven"):
        for hidden, inputs, batch in ((1, 1, 1), (33, 3, 2), (65, 130, 9)):
            p = problem(Case(ALL[name], hidden=hidden, inputs=inputs, batch=batch, steps=3))
            expected = evaluate(p, "cpu")
            for end in (False, True):
                tensors = {k: fenced.like(v, at_end=end) for k, v in p.tensors.items()}
                cotangents = {k: fenced.like(v, at_end=end) for k, v in p.cotangents.items()}
                pages.empty = partial(fenced.empty, at_end=end)
                same_bits(expected, evaluate(Problem(p.case, tensors, cotangents), "cpu"))
                pages.empty = real
    print("untouched")


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect of Linux")
def test_nothing_is_touched_outside() -> None:
    """Inputs, weights and results end at, then begin at, a page without permissions."""
    here = Path(__file__).parent
    code = "import test_sequence; test_sequence.touch_nothing_else()"
    path = os.pathsep.join([str(here), str(here.parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "untouched" in done.stdout


def test_arguments_are_left_alone() -> None:
    for cell in FEW:
        p = problem(Case(cell, layout="sliced"))
        before = {k: v.clone() for k, v in {**p.tensors, **{f"c.{k}": v for k, v in p.cotangents.items()}}.items()}
        evaluate(p, "cpu")
        after = {**p.tensors, **{f"c.{k}": v for k, v in p.cotangents.items()}}
        same_bits(before, {k: v.clone() for k, v in after.items()})


def test_results_share_no_memory() -> None:
    """Neither with arguments nor with each other: a caller may write into them."""
    for cell, steps in ((FEW[0], 1), (FEW[1], 0), (FEW[1], 4)):
        p = problem(replace(Case(cell), steps=steps))
        found = evaluate(p, "cpu")
        places = [v.untyped_storage().data_ptr() for v in (*found.values(), *p.tensors.values()) if v.numel()]
        assert len(places) == len(set(places))
