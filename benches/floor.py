"""The floor: what the machine can do at best, measured in the run whose times are compared with it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benches import loops
from benches.shapes import GATES, Shape
from benches.timing import sample

BURSTS = 16
"""A ceiling is the best of so many short runs in which no core was lost: another process can only make one slower."""
BURST_SECONDS = 2e-3
PATIENCE_SECONDS = 0.3
"""On a busy machine such runs are rare; after this long the best of all counts."""
SIDE = 1024
"""Rows and columns of the large product: 2 GFLOP, 4 MB a matrix."""


@dataclass
class Ceilings:
    """Rates of one thread setting: GFLOP/s of three ways to multiply, GB/s of reading so many bytes in turn."""

    threads: int
    multiply_add: float = 0.0
    mm: float = 0.0
    onednn: float | None = None
    gigabytes: dict[int, float] = field(default_factory=dict)

    def measure(self) -> None:
        """Measure the arithmetic rates, or once more: the best counts, as another process can only make one slower."""
        self.arithmetic()
        self.mm = max(self.mm, _product(_by_mm))
        if hasattr(torch._C._nn, "mkldnn_linear") and torch.backends.mkldnn.is_available():
            self.onednn = max(self.onednn or 0.0, _product(_by_onednn))

    def arithmetic(self) -> float:
        """Measure the multiply-adds alone, or once more."""
        self.multiply_add = max(self.multiply_add, _multiply_add(self.threads))
        return self.multiply_add

    def again(self, shape: Shape) -> None:
        """Measure once more what the floor of a shape needs, close to the shape's own times."""
        self.arithmetic()
        for size in {reading_size(shape, formula) for formula in GATES}:
            self.gigabytes[size] = max(self.gigabytes.get(size, 0.0), _reading(self.threads, size))

    def bandwidth(self, size: int) -> float:
        """GB/s at which weights of so many bytes are read again and again, each thread its own share of them.

        Less is never read more slowly: where a measurement says so, another process was in it.
        """
        if size not in self.gigabytes:
            self.gigabytes[size] = _reading(self.threads, size)
        return max(rate for measured, rate in self.gigabytes.items() if measured >= size)

    def floor(self, shape: Shape, formula: str) -> tuple[float, str]:
        """The least milliseconds of a shape, and whether arithmetic or reading the weights sets it.

        The weights of the state are read at every step, those of the input once, as their product can be taken for all
        steps together. Training reads them twice. Point-wise functions, outputs and barriers are not counted.
        """
        arithmetic = shape.operations(formula) / self.multiply_add / 1e6
        weights = shape.time * shape.recurrent_bytes(formula) + shape.input_bytes(formula)
        traffic = (2 if shape.training else 1) * weights
        reading = traffic / self.bandwidth(reading_size(shape, formula)) / 1e6
        return (arithmetic, "arithmetic") if arithmetic >= reading else (reading, "weights")

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Ceilings:
        """The ceilings of a ``record``."""
        gigabytes = {int(size): rate for size, rate in record["read_gigabytes_per_second"].items()}
        products = record["mm_gflops"], record["onednn_gflops"]
        return cls(record["threads"], record["multiply_add_gflops"], *products, gigabytes)

    def record(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "threads": self.threads,
            "multiply_add_gflops": self.multiply_add,
            "mm_gflops": self.mm,
            "onednn_gflops": self.onednn,
            "read_gigabytes_per_second": {str(size): self.bandwidth(size) for size in sorted(self.gigabytes)},
        }


def reading_size(shape: Shape, formula: str) -> int:
    """Bytes that are read again and again: a single step repeats all weights, a sequence those of the state."""
    once = shape.input_bytes(formula) if shape.time == 1 else 0
    return shape.recurrent_bytes(formula) + once


def _multiply_add(threads: int) -> float:
    tier = loops.tier()
    sums, width = loops.accumulators(tier), loops.lanes(tier)
    # Factor 1/2 and addend 1 (the values of the source are ones but for the first vector): sums stay near 2, far from
    # infinities and from denormal numbers, which are slow.
    source = loops.aligned((sums + 2) * width)
    source[:width] = 0.5
    source[2 * width :] = torch.arange(sums * width) / (sums * width)
    target = loops.aligned(threads * width)
    work = 2.0 * threads * sums * width * loops.UNROLL
    return _best(lambda team, n: loops.run("multiply_add", tier, team, n, source, 0, target), threads, work)


def _reading(threads: int, size: int) -> float:
    tier = loops.tier()
    step = loops.STREAMS * tier.vector_bytes
    vectors = -(-size // (threads * step)) * loops.STREAMS
    source = loops.aligned(threads * vectors * loops.lanes(tier))
    source.zero_()
    target = loops.aligned(threads * loops.lanes(tier))
    work = float(threads * vectors * tier.vector_bytes)
    return _best(lambda team, n: loops.run("read", tier, team, n, source, vectors, target), threads, work)


def _best(run: Callable[[int, int], None], threads: int, work: float) -> float:
    """Work per nanosecond in the best burst. ``run`` takes threads and a number of turns; ``work`` is that of one turn.

    The length of a burst is found with one thread: a team on a busy machine takes milliseconds over nothing.
    """
    count = 1
    run(1, count)  # compiled here
    while (once := sample(functools.partial(run, 1, count), 1).seconds) < BURST_SECONDS / 4:
        count *= 4
    count = max(1, round(count * BURST_SECONDS / once))
    return work * count / _least(functools.partial(run, threads, count)) / 1e9


def _least(run: Callable[[], object]) -> float:
    """Seconds of the best run."""
    best, quiet, end = float("inf"), 0, time.perf_counter() + PATIENCE_SECONDS
    while quiet < BURSTS and (best == float("inf") or time.perf_counter() < end):
        found = sample(run, 1)
        best, quiet = min(best, found.seconds), quiet + (not found.disturbed)
    return best


def _by_mm(a: torch.Tensor, b: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.mm(a, b)


def _by_onednn(a: torch.Tensor, b: torch.Tensor) -> Callable[[], object]:
    # The operands are put into oneDNN's layout outside of the timing.
    left, right = a.to_mkldnn(), b.to_mkldnn()
    return lambda: torch._C._nn.mkldnn_linear(left, right, None)


def _product(make: Callable[[torch.Tensor, torch.Tensor], Callable[[], object]]) -> float:
    generator = torch.Generator().manual_seed(0)
    product = make(*(torch.randn(SIDE, SIDE, generator=generator) for _ in range(2)))
    with torch.no_grad():
        product()
        return 2.0 * SIDE**3 / _least(product) / 1e9
