"""Layers under ``torch.autocast`` on a processor that multiplies bfloat16: ``python -m benches.autocast``.

The least of some rounds in which all take turns, on one thread, in time of the thread. A layer whose results are not
those of float64 within roundings to bfloat16 has no time.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gatewise as gw
from benches import machine
from gatewise.tasks.folder import write_json

HALF = torch.bfloat16
SHAPES = ((8, 200, 128, 256), (64, 25, 192, 256), (32, 100, 256, 512), (64, 50, 512, 1024))
"""Rows, steps, input_size, hidden_size."""
LAYERS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "GRU": (lambda i, h: gw.GRU(i, h, reset_after=True), nn.GRU),
    "LSTM": (gw.LSTM, nn.LSTM),
}
KINDS = ("gatewise, float32", "gatewise, bfloat16", "torch, float32", "torch, bfloat16")
WORST = 2.0**-4
"""Relative error, in the norm, of outputs and gradients: roundings of operands and results, also from step to step."""


def results(layer: nn.Module, x: Tensor, half: bool) -> list[Tensor]:
    """The output and the gradients of the parameters."""
    layer.zero_grad()
    with torch.autocast("cpu", HALF, half):
        y = layer(x)[0]
    y.backward(torch.ones_like(y) / y[..., 0].numel() ** 0.5)
    return [y.detach(), *(p.grad for p in layer.parameters() if p.grad is not None)]


def wrong(found: list[Tensor], exact: list[Tensor]) -> float:
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))


def jobs(layer: nn.Module, x: Tensor, half: bool) -> dict[str, Callable[[], object]]:
    def forward() -> None:
        with torch.no_grad(), torch.autocast("cpu", HALF, half):
            layer(x)

    return {"forward": forward, "training": lambda: results(layer, x, half)}


def measure(name: str, shape: tuple[int, int, int, int], rounds: int) -> list[dict[str, Any]]:
    """A row for the forward and one for a step of training; milliseconds by kind."""
    rows, steps, inputs, units = shape
    torch.manual_seed(0)
    own, other = (make(inputs, units) for make in LAYERS[name])
    own.load_state_dict(other.state_dict())
    x = torch.randn(steps, rows, inputs)
    exact = results(copy.deepcopy(other).double(), x.double(), False)
    kinds = dict(zip(KINDS, [(own, False), (own, True), (other, False), (other, True)], strict=True))
    errors = {kind: wrong(results(layer, x, half), exact) for kind, (layer, half) in kinds.items()}
    work = {kind: jobs(layer, x, half) for kind, (layer, half) in kinds.items() if errors[kind] <= WORST}
    best = {(kind, what): math.inf for kind, found in work.items() for what in found}
    for _ in range(rounds):
        for kind, what in best:
            start = time.thread_time()
            work[kind][what]()
            best[kind, what] = min(best[kind, what], time.thread_time() - start)
    return [
        {
            "layer": name,
            "what": what,
            "shape": shape,
            "milliseconds": {kind: 1000 * best[kind, what] for kind in work},
            "errors": errors,
        }
        for what in ("forward", "training")
    ]


def table(found: list[dict[str, Any]]) -> str:
    lines = ["| | rows, steps, inputs, units | " + " | ".join(KINDS) + " | ÷ torch | errors |"]
    lines.append("|---" * (len(KINDS) + 4) + "|")
    for row in found:
        times = [row["milliseconds"].get(kind) for kind in KINDS]
        shown = ["wrong" if t is None else f"{t:.1f}" for t in times]
        pairs = [(times[0], times[2]), (times[1], times[3])]
        ratio = " / ".join("–" if a is None or b is None else f"{b / a:.1f}" for a, b in pairs)
        shape = ", ".join(map(str, row["shape"]))
        errors = " / ".join(f"{100 * row['errors'][kind]:.2f} %" for kind in KINDS[1::2])
        lines.append(f"| {row['layer']}, {row['what']} | {shape} | {' | '.join(shown)} | {ratio} | {errors} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("runs/autocast.json"))
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for name in LAYERS for shape in SHAPES for row in measure(name, shape, asked.rounds)]
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(asked.json, {"rows": found, "machine": machine.features()})
    print(table(found))


if __name__ == "__main__":
    main()
