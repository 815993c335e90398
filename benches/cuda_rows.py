"""One row of ``benches.cuda``: a formula in a dtype at a shape, checked against float64 and timed beside its peers."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gatewise as gw
from gatewise import cells
from gatewise.backends.cuda.steps import Record, by_graph
from gatewise.compiler.cell import Cell

FORMULAS: dict[str, tuple[Cell, type[nn.Module] | None]] = {
    "gru_after": (cells.gru_reset_after, nn.GRU),
    "gru_before": (cells.gru, None),
    "lstm": (cells.lstm, nn.LSTM),
    "mgu": (cells.mgu, None),
}
"""The cell, and torch's layer of the same formula where there is one."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}
LIMITS = {"bf16": 2e-2, "fp16": 4e-3, "tf32": 3e-3}
"""Of ‖found − truth‖ / ‖truth‖, for the output and for every gradient."""
CHECKED = 100
"""Steps that are compared with float64, at most: which kernel runs does not depend on the number of steps. So many of
the loop are timed, too, and torch.compile, which unrolls them, takes some 25 s for that."""
REPEATS, WARM, BUDGET = 9, 2, 2.0
"""Calls that are timed, those before them, and seconds after which none begins; three are timed always."""


@dataclass(frozen=True)
class Place:
    """Where a row is measured. Tests measure on the processor."""

    device: torch.device
    backend: str
    clock: Callable[[Callable[[], object]], float]
    """Median milliseconds of a call."""
    record: Record
    peak: Callable[[Callable[[], object]], float]
    """Megabytes that a call adds at most."""


def card(device: torch.device) -> Place:
    return Place(device, "cuda", _milliseconds, by_graph(device), _megabytes)


def _milliseconds(call: Callable[[], object]) -> float:
    """By events of the card, from its first operation to its last."""
    for _ in range(WARM):
        call()
    torch.cuda.synchronize()
    found: list[float] = []
    start = time.perf_counter()
    while len(found) < REPEATS and (len(found) < 3 or time.perf_counter() - start < BUDGET):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end))
    return statistics.median(found)


def _megabytes(call: Callable[[], object]) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


@dataclass(frozen=True)
class Row:
    formula: str
    dtype: str
    shape: tuple[int, int, int, int]
    """Rows, steps, inputs, units."""

    def __str__(self) -> str:
        return f"{self.formula} {self.dtype} {','.join(map(str, self.shape))}"

    def layer(self, place: Place) -> gw.Recurrent:
        torch.manual_seed(0)
        _, _, inputs, units = self.shape
        cell, dtype = FORMULAS[self.formula][0], DTYPES[self.dtype]
        return gw.Recurrent(cell, inputs, units, device=place.device, dtype=dtype)

    def rival(self, place: Place) -> nn.Module | None:
        kind = FORMULAS[self.formula][1]
        return None if kind is None else kind(*self.shape[2:], device=place.device, dtype=DTYPES[self.dtype])

    def data(self, place: Place, steps: int) -> tuple[Tensor, Tensor]:
        """The input, and a gradient of the output."""
        rows, _, inputs, units = self.shape
        generator = torch.Generator(place.device).manual_seed(1)
        made = (torch.randn(steps, rows, n, device=place.device, generator=generator) for n in (inputs, units))
        x, dy = (t.to(DTYPES[self.dtype]) for t in made)
        return x.requires_grad_(), dy


def trained(layer: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    """The output, and the gradients of x and of the parameters."""
    y = layer(x)[0]
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], dy)]


def wrong(layer: gw.Recurrent, x: Tensor, dy: Tensor, place: Place) -> dict[str, float]:
    """How far output and gradients are from float64 on the same rounded numbers, by name."""
    with gw.backend("eager"):
        exact = copy.deepcopy(layer).double()
        truth = trained(exact, x.detach().double().requires_grad_(), dy.double())
    with gw.backend(place.backend):
        found = trained(layer, x, dy)
    names = ["y", "d.x", *(f"d.{name}" for name, _ in layer.named_parameters())]
    pairs = zip(names, found, truth, strict=True)
    return {name: float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for name, a, b in pairs}


def verdict(errors: dict[str, float], limit: float) -> str:
    """Why no time is printed; empty where all is right. What is no number is wrong too."""
    name, worst = max(errors.items(), key=lambda pair: float("inf") if pair[1] != pair[1] else pair[1])
    return "" if worst <= limit else f"{name} is wrong by {worst:.2g}, expected at most {limit:g}"


def measured(row: Row, place: Place, *, peers: bool, compiled: bool) -> dict[str, object]:
    """Errors, then µs a step: ``forward`` and ``both`` (with all gradients), as called and replayed from a CUDA graph.

    Args:
        peers: torch's layer of the formula and the loop of our layer in torch's operations too. compiled: that loop
            under torch.compile as well, which takes minutes.
    """
    layer = row.layer(place)
    found: dict[str, object] = {"formula": row.formula, "dtype": row.dtype, "shape": list(row.shape)}
    errors = wrong(layer, *row.data(place, min(CHECKED, row.shape[1])), place)
    found |= {"errors": errors}
    problem = verdict(errors, LIMITS[row.dtype])
    if problem:
        return found | {"problem": problem}
    x, dy = row.data(place, row.shape[1])
    with gw.backend(place.backend):
        found |= {"backend": layer.backend, "ours": _times(layer, x, dy, place)}
        found |= {"memory_mb": place.peak(lambda: trained(layer, x, dy))}
    rival = row.rival(place) if peers else None
    if rival is not None:
        found |= {"torch": _times(rival, x, dy, place), "torch_memory_mb": place.peak(lambda: trained(rival, x, dy))}
    if peers:  # the loop's time of a step does not depend on how many there are
        x, dy = row.data(place, min(CHECKED, row.shape[1]))
        with gw.backend("eager"):
            found |= {"loop": _times(layer, x, dy, place, graphs=False)}
            if compiled:
                found |= {"loop_compiled": _times(torch.compile(layer), x, dy, place, graphs=False)}
    return found


def _times(layer: nn.Module, x: Tensor, dy: Tensor, place: Place, *, graphs: bool = True) -> dict[str, float]:
    def forward() -> object:
        with torch.no_grad():
            return layer(x)

    def both() -> object:
        return trained(layer, x, dy)

    calls = {"forward": forward, "both": both}
    calls |= {f"{name} replayed": place.record(call) for name, call in calls.items()} if graphs else {}
    return {name: place.clock(call) * 1e3 / len(x) for name, call in calls.items()}
