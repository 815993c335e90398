"""Random calls with tensors that are wrong in random ways, in memory between forbidden pages.

``python tests/support/fuzzing.py --seconds 3600 --seed 1`` runs children of some hundred calls each until the time is
up. A child that is ended by the system (a read or a write beside a tensor), hangs or finds a wrong result stops it, and
the call that shows it is printed. A right call must give what the eager reference gives; a wrong one must raise a
sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fenced
import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from kernel_cells import ALL
from strategies import cells
from torch import Tensor

import gatewise as gw
from gatewise import ops
from gatewise.backends.cpu import pages, program
from gatewise.compiler import Cell

REFUSALS = (RuntimeError, TypeError, ValueError, NotImplementedError)
WAYS = ("run", "train", "recompute", "trace", "layer", "stream", "backward")
BIG = (2**31 - 1, 2**31, 2**31 + 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tests/support/fuzzing.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=300, help="of one child")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        _child(options.seed, options.calls, options.child)
        return 0
    end, done = time.monotonic() + options.seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "call"
        for seed in itertools.count(options.seed):
            command = [
                sys.executable,
                __file__,
                "--seed",
                str(seed),
                "--calls",
                str(options.calls),
                "--child",
                str(log),
            ]
            result = subprocess.run(command, capture_output=True, text=True, timeout=900)
            if result.returncode:
                print(f"seed {seed} ended with {result.returncode}; the last call: {log.read_text()}")
                print(result.stdout[-4000:], result.stderr[-4000:])
                return 1
            done += int(result.stdout.split()[-1])
            if time.monotonic() > end:
                break
    print(f"{done} calls from seed {options.seed} to {seed}: nothing found")
    return 0


def _child(seed: int, calls: int, log: Path) -> None:
    torch.set_num_threads(1 + seed % 2)
    count = 0
    # Written and not closed: what is in the file when the process is ended is the call that ended it.
    with log.open("w", buffering=1) as file:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=calls,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(st.data())
        def every(data: Any) -> None:
            nonlocal count
            count += 1
            attack(data.draw, file)

        with everything_fenced():
            every()
    print(count)


@contextlib.contextmanager
def everything_fenced() -> Iterator[None]:
    """Results and scratch memory of calls lie between forbidden pages too, by turns at the end and at the beginning."""
    ends = itertools.cycle((True, False))

    patch = pytest.MonkeyPatch()
    patch.setattr(pages, "like", lambda prototype: fenced.empty(prototype.shape, prototype.dtype, at_end=next(ends)))
    patch.setattr(program, "_SMALL", 0)  # scratch memory is not lent from call to call
    try:
        yield
    finally:
        patch.undo()


def attack(draw: Any, log: Any) -> None:
    """One call, right or wrong."""
    cell = draw(st.one_of(st.sampled_from(sorted(ALL)).map(ALL.get), cells()))
    steps, batch, width = draw(st.integers(0, 5)), draw(st.integers(0, 4)), draw(st.integers(1, 9))
    hidden = draw(st.sampled_from([1, 2, 7, 15, 16, 17, 31, 33, 48]))
    dtype, way = draw(st.sampled_from([torch.float32, torch.float64])), draw(st.sampled_from(WAYS))
    if way == "stream":
        batch = max(1, batch)
        dtype = dtype if cell.parameter_shapes(1, 1) else torch.float32  # which a layer without weights streams in
    torch.manual_seed(draw(st.integers(0, 1000)))
    tensors = _tensors(cell, dtype, steps, batch, width, hidden)
    right = {name: t.clone() for name, t in tensors.items()}
    given = {name: fenced.like(t, at_end=draw(st.booleans())) for name, t in tensors.items()}
    wrong = False
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        name = draw(st.sampled_from(sorted(given)))
        how = draw(st.sampled_from(sorted(CHANGES)))
        if how == "_nothing" and name.startswith(("x", "in.", "state.")):
            continue  # which layers refuse
        changed, harmless = CHANGES[how](draw, given[name])
        given[name] = changed
        if not harmless:  # torch itself ends the process where a tensor without memory is changed further
            wrong = True
            break
    log.seek(0)
    log.truncate()
    log.write(f"{way} {cell.text}\n{dtype} { {n: _said(t) for n, t in given.items()} }\n")
    log.flush()
    try:
        found = _call(way, cell, given)
    except REFUSALS as error:
        if not wrong or not str(error).strip():
            raise AssertionError(f"a right call was refused: {type(error).__name__}: {error}") from error
        return
    if wrong:  # torch may take it all the same, as a layer casts or a call does not read the tensor
        return
    with gw.backend("eager"):
        expected = _call(way, cell, right)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3, equal_nan=True)


def _tensors(cell: Cell, dtype: torch.dtype, steps: int, batch: int, width: int, hidden: int) -> dict[str, Tensor]:
    columns = {"input": width, "hidden": hidden}
    made = {"x": torch.randn(steps, batch, width)}
    made |= {f"in.{n}": torch.rand(steps, batch, columns.get(str(w)) or int(w)) for n, w in cell.inputs}
    made |= {f"state.{s}": torch.randn(batch, hidden) for s in cell.states}
    made |= {n: 0.3 * torch.randn(shape) for n, shape in cell.parameter_shapes(width, hidden).items()}
    return {n: t.to(dtype) for n, t in made.items()}


def _parts(cell: Cell, given: dict[str, Any]) -> tuple[Any, dict[str, Any], list[Any], dict[str, Any]]:
    inputs = {n: given[f"in.{n}"] for n, _ in cell.inputs}
    beside = {"x", *(f"in.{n}" for n in inputs), *(f"state.{s}" for s in cell.states)}
    states = [given[f"state.{s}"] for s in cell.states]
    return given["x"], inputs, states, {n: t for n, t in given.items() if n not in beside}


def _call(way: str, cell: Cell, given: dict[str, Any]) -> list[Tensor]:
    """The results of a call in one of the ways."""
    x, inputs, states, parameters = _parts(cell, given)
    if way == "run":
        y, finals = ops.run(cell, x, inputs, states, parameters, reverse=True)
        return [y, *finals]
    if way == "trace":
        gates = x.new_empty(len(cell.gates), *x.shape[:2], states[0].shape[-1])
        y, finals = ops.trace(cell, x, inputs, states, parameters, gates)
        return [y, *finals, gates]
    if way in ("layer", "stream"):
        return _of_layer(way, cell, x, inputs, states, parameters)
    leaves = [
        t.detach().requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() else t for t in given.values()
    ]
    x, inputs, states, parameters = _parts(cell, dict(zip(given, leaves, strict=True)))
    y, finals = ops.run(cell, x, inputs, states, parameters, recompute=way == "recompute")
    results = [y, *finals]
    if way == "backward":  # gradients that lie in memory as nobody's do
        cotangents = [torch.ones(1, dtype=r.dtype).expand(r.shape) for r in results]
    else:
        cotangents = [fenced.like(torch.ones_like(r)) for r in results]
    wanted = [t for t in leaves if isinstance(t, Tensor) and t.requires_grad]
    # Without a step nothing depends on anything in the reference.
    pairs = [(r, c) for r, c in zip(results, cotangents, strict=True) if r.requires_grad]
    grads: Any = [None] * len(wanted)
    if pairs:
        grads = torch.autograd.grad([r for r, _ in pairs], wanted, [c for _, c in pairs], allow_unused=True)
    return [r.detach() for r in results] + [
        torch.zeros_like(t) if g is None else g for t, g in zip(wanted, grads, strict=True)
    ]


def _of_layer(
    way: str, cell: Cell, x: Tensor, inputs: dict[str, Tensor], states: list[Tensor], parameters: dict[str, Tensor]
) -> list[Tensor]:
    """Through a layer whose parameters were exchanged."""
    layer = gw.Recurrent(cell, max(1, int(x.shape[-1])), max(1, int(states[0].shape[-1])), dtype=x.dtype)
    for name, value in parameters.items():
        layer._parameters[f"{name}_l0"] = value if value is None else torch.nn.Parameter(value, requires_grad=False)
    hx: Any = [s.unsqueeze(0) for s in states]
    if way == "layer":
        y, finals = layer(x, hx[0] if len(hx) == 1 else tuple(hx), **inputs)
        return [y, *(finals if isinstance(finals, tuple) else [finals])]
    stream = layer.stream(max(1, int(x.shape[1])))
    stream.state = hx[0] if len(hx) == 1 else tuple(hx)
    steps = min([6, len(x), *(len(v) for v in inputs.values())])
    return [stream.step(x[t], **{n: v[t] for n, v in inputs.items()}) for t in range(steps)]


# --- what may be done to a tensor: the new one, and whether a call may go on as if nothing were ---


def _other_shape(draw: Any, t: Tensor) -> tuple[Any, bool]:
    shape = list(t.shape)
    kind = draw(st.sampled_from(["one more", "one less", "fewer dimensions", "more dimensions", "turned", "one"]))
    k = draw(st.integers(0, max(0, len(shape) - 1)))
    if kind == "fewer dimensions":
        shape = shape[1:]
    elif kind == "more dimensions":
        shape.insert(k, draw(st.integers(1, 2)))
    elif kind == "turned":
        shape = shape[::-1]
    elif shape:
        shape[k] = {"one more": shape[k] + 1, "one less": max(0, shape[k] - 1), "one": 1}[kind]
    made = fenced.empty(shape, t.dtype)
    return made.fill_(0.5), False


def _big(draw: Any, t: Tensor) -> tuple[Any, bool]:
    """A size near 2³¹, without memory."""
    shape = list(t.shape) or [1]
    shape[draw(st.integers(0, len(shape) - 1))] = draw(st.sampled_from(BIG))
    return torch.ones(1, dtype=t.dtype).expand(shape), False


def _other_dtype(draw: Any, t: Tensor) -> tuple[Any, bool]:
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int8, torch.bool]
    dtype = draw(st.sampled_from([*kinds, torch.complex64]))
    return fenced.like(t.to(dtype)), dtype == t.dtype


def _turned(draw: Any, t: Tensor) -> tuple[Any, bool]:
    order = draw(st.permutations(range(t.dim())))
    back = [order.index(k) for k in range(t.dim())]
    return fenced.like(t.permute(order).contiguous()).permute(back), True


def _within(draw: Any, t: Tensor) -> tuple[Any, bool]:
    """A part of wider memory, beginning somewhere in it."""
    if t.dim() == 0:
        return t, True
    wide = fenced.empty([n + draw(st.integers(0, 2)) for n in t.shape], t.dtype, at_end=draw(st.booleans()))
    pairs = zip(wide.shape, t.shape, strict=True)
    part = wide[tuple(slice(w - n, w) if draw(st.booleans()) else slice(0, n) for w, n in pairs)]
    return part.copy_(t), True


def _strange_strides(draw: Any, t: Tensor) -> tuple[Any, bool]:
    """Any stride where a dimension has one number or none."""
    strange = st.sampled_from([0, 1, 2**40, 2**51, 2**55])
    strides = [draw(strange) if n <= 1 else s for n, s in zip(t.shape, t.stride(), strict=True)]
    return t.as_strided(t.shape, strides), True


def _expanded(draw: Any, t: Tensor) -> tuple[Any, bool]:
    """Zero strides: other numbers, but a right tensor."""
    k = draw(st.integers(0, max(0, t.dim() - 1)))
    return (t.narrow(k, 0, 1).expand(t.shape) if t.dim() and t.shape[k] else t), False


def _freed(draw: Any, t: Tensor) -> tuple[Any, bool]:
    made = torch.cat([t.flatten(), t.flatten()])[t.numel() // 2 :][: t.numel()].view(t.shape)
    size = draw(st.sampled_from([0, 1, made.untyped_storage().nbytes() // 2]))
    made.untyped_storage().resize_(size)
    return made, t.numel() == 0


def _on_meta(draw: Any, t: Tensor) -> tuple[Any, bool]:
    return t.to("meta"), False


def _negative(draw: Any, t: Tensor) -> tuple[Any, bool]:
    """A tensor whose numbers are those in memory with the other sign."""
    return torch._neg_view(fenced.like(-t)), True


def _no_memory(draw: Any, t: Tensor) -> tuple[Any, bool]:
    return torch._efficientzerotensor(t.shape, dtype=t.dtype), False


def _sparse(draw: Any, t: Tensor) -> tuple[Any, bool]:
    return t.to_sparse(), False


class Sub(Tensor):
    """A subclass without behaviour of its own."""


def _subclass(draw: Any, t: Tensor) -> tuple[Any, bool]:
    return t.as_subclass(Sub), False


def _nothing(draw: Any, t: Tensor) -> tuple[Any, bool]:
    return None, False


CHANGES = {
    f.__name__: f
    for f in (
        _other_shape,
        _big,
        _other_dtype,
        _turned,
        _within,
        _strange_strides,
        _expanded,
        _freed,
        _on_meta,
        _negative,
        _no_memory,
        _sparse,
        _subclass,
        _nothing,
    )
}


def _said(t: Any) -> str:
    if not isinstance(t, Tensor):
        return repr(t)
    strides = t.stride() if t.layout == torch.strided else t.layout
    return f"{t.dtype} {tuple(t.shape)} strides {strides} on {t.device}"


if __name__ == "__main__":
    os.environ.setdefault("GATEWISE_CACHE", "off")
    sys.exit(main())
