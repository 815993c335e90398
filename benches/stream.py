"""Microseconds of one step of a stream, beside torch.nn called with one step: ``python -m benches.stream``.

Every shape is first compared: the stream with the layer's call on a whole sequence, to the bit, and with torch's
result. The columns take turns in one process. ``native`` is the machine code alone, called from Python: what a step
takes beyond it is checks and addresses.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

import gatewise as gw
from benches.machine import features
from benches.timing import Times, measure
from gatewise.backends.cpu import stream

SHAPES = ((64, 96), (128, 256), (256, 512), (512, 1024))
"""input_size, hidden_size; one row, one layer."""
COLUMNS = ("torch.nn.GRU", "torch.nn.GRUCell", "reset_after", "reset_after, out", "native", "GRU, out")
HEAD = ("shape B,T,I,H", "threads", *COLUMNS, "overhead", "÷ GRU", "÷ best", "disturbed")
STEPS = 20


def check(layer: gw.GRU, rival: nn.GRU, x: torch.Tensor) -> None:
    """Stop when a step has other bits than the sequence, or the sequence is not torch's."""
    whole, _ = layer(x)
    made = layer.stream()
    steps = torch.stack([made.step(row) for row in x])
    if not torch.equal(steps, whole):
        raise SystemExit(f"a stream of {layer} has other bits than the whole sequence")
    if layer.reset_after and not torch.allclose(steps, rival(x)[0], atol=1e-5):
        raise SystemExit(f"a stream of {layer} differs from torch.nn.GRU by more than 1e-5")


def columns(width: int, units: int) -> dict[str, Callable[[], object]]:
    """One step of everything, by name, after checking it."""
    torch.manual_seed(0)
    rival, cell = nn.GRU(width, units), nn.GRUCell(width, units)
    after, before = gw.GRU(width, units, reset_after=True), gw.GRU(width, units)
    after.load_state_dict(rival.state_dict())
    for layer in (after, before):
        check(layer, rival, torch.randn(STEPS, 1, width))
    x, h, out = torch.randn(1, 1, width), torch.zeros(1, 1, units), torch.empty(1, units)
    row, start = x[0], h[0]
    made, other, bare = after.stream(), before.stream(), after.stream()
    bare.step(row, out)  # from here on its frames hold the addresses of x and out
    engine = bare._engine
    assert isinstance(engine, stream.Steps)
    call, address = engine._call, engine._chains[0].addresses[0]
    functions: Sequence[Callable[[], object]] = (
        lambda: rival(x, h),
        lambda: cell(row, start),
        lambda: made.step(row),
        lambda: made.step(row, out),
        lambda: (bare, call(address)),
        lambda: other.step(row, out),
    )
    return dict(zip(COLUMNS, functions, strict=True))


def line(width: int, units: int, threads: int, times: dict[str, Times]) -> str:
    """A row of the table."""
    us = {name: 1e3 * t.median for name, t in times.items()}
    ours = us["reset_after, out"]
    best = min(us["torch.nn.GRU"], us["torch.nn.GRUCell"])
    texts = [f"1,1,{width},{units}", str(threads), *(f"{us[name]:.2f}" for name in COLUMNS)]
    texts += [f"{ours - us['native']:.2f}", f"{us['torch.nn.GRU'] / ours:.1f}", f"{best / ours:.1f}"]
    texts.append(f"{max(t.disturbed for t in times.values()):.0%}")
    return "  ".join(text.rjust(len(head)) for text, head in zip(texts, HEAD, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the JSON where one is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape and number of threads")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    print("µs per step, medians in turn; ÷ GRU and ÷ best are torch's times ÷ that of reset_after with out=")
    print("  ".join(HEAD))
    found = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        for width, units in SHAPES:
            with torch.inference_mode():
                times = measure(columns(width, units), given.seconds)
            print(line(width, units, threads, times), flush=True)
            record = {name: vars(t) for name, t in times.items()}
            found.append({"shape": [1, 1, width, units], "threads": threads, "milliseconds": record})
    report = {"machine": features(), "steps": found}
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    else:
        print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
