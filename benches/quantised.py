"""Layers and streams in int8 beside float32 and torch's dynamic int8: ``python -m benches.quantised [B,T,I,H …]``.

One thread, inference, a GRU with the weights of torch.nn.GRU. What is compared runs in turn, for ``SECONDS`` a line;
the table has medians in microseconds, and in brackets the largest error of an output against torch's layer in float64.
Shapes of one step have a second line, of a stream's step. Time is that of the thread, so that others on the machine do
not count but for what they do to the caches.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import gatewise as gw

SHAPES = (
    "1,1,64,96",
    "1,1,128,256",
    "1,1,256,512",
    "1,1,512,1024",
    "1,100,128,256",
    "1,1000,40,512",
    "8,200,128,256",
    "32,100,256,512",
    "64,50,512,1024",
    "256,24,1,128",
)
"""Rows, steps, inputs, units."""
SECONDS = 1.0
LEAST = 7
"""Runs of each at least."""
SHORT = 5e-3
"""Seconds that are timed at once, by several runs where one is shorter."""

Runs = dict[str, Callable[[], Tensor]]


class Model(nn.Module):
    """What ``quantize_dynamic`` takes: a module around a layer."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.layer = nn.GRU(inputs, units)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)[0]
        return y


def times(runs: Runs) -> dict[str, float]:
    """The median time of each in microseconds, one after the other."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    counts = {}
    for name, run in runs.items():
        run()
        counts[name] = max(1, round(SHORT / max(_seconds(run, 1), 1e-6)))
    end = time.thread_time() + SECONDS
    while time.thread_time() < end or len(next(iter(found.values()))) < LEAST:
        for name, run in runs.items():
            found[name].append(_seconds(run, counts[name]))
    return {name: 1e6 * statistics.median(own) for name, own in found.items()}


def _seconds(run: Callable[[], Tensor], count: int) -> float:
    start = time.thread_time()
    for _ in range(count):
        run()
    return (time.thread_time() - start) / count


def measured(rows: int, steps: int, inputs: int, units: int) -> list[dict[str, str]]:
    """The rows of the table for a shape."""
    torch.manual_seed(0)
    model, x = Model(inputs, units).eval(), torch.randn(steps, rows, inputs)
    exact = nn.GRU(inputs, units).double()
    exact.load_state_dict(model.layer.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of this interface, which has no other yet
        theirs = torch.ao.quantization.quantize_dynamic(model, {nn.GRU}, dtype=torch.qint8)
    ours = gw.GRU(inputs, units, reset_after=True)
    ours.load_state_dict(model.layer.state_dict())
    small = gw.quantize(ours)
    with torch.inference_mode():
        wanted = exact(x.double())[0]
        lines = {"call": {"float32": lambda: ours(x)[0], "int8": lambda: small(x)[0], "torch int8": lambda: theirs(x)}}
        if steps == 1:
            first, second, row = ours.stream(rows, threads=1), small.stream(rows, threads=1), x[0]
            one, other = torch.empty(rows, units), torch.empty(rows, units)
            lines["stream"] = {"float32": lambda: first.step(row, one), "int8": lambda: second.step(row, other)}
        found = []
        for kind, runs in lines.items():
            errors = {} if kind == "stream" else {n: float((run() - wanted).abs().max()) for n, run in runs.items()}
            said = {"shape": f"{rows},{steps},{inputs},{units}", "what": kind}
            for name, value in times(runs).items():
                said[name] = f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
                said[name] += f" ({errors[name]:.0e})" if name in errors else ""
            found.append(said)
    return found


def main(shapes: tuple[str, ...] = SHAPES) -> None:
    torch.set_num_threads(1)
    columns = ["shape", "what", "float32", "int8", "torch int8"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for shape in shapes:
        for row in measured(*map(int, shape.split(","))):
            print(f"| {' | '.join(row.get(column, '') for column in columns)} |", flush=True)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or SHAPES)
