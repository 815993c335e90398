"""A hash of what a fixed set of calls gives, bit for bit: ``python -m benches.bits --json before.json``.

For changes that must change nothing: taken before and after, ``--against before.json`` names the calls that differ. The
bits belong to the tier of one processor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gatewise as gw
from benches import machine
from benches.files import unwritable, write_json

SIZES = ((1, 1, 1, 1), (7, 3, 5, 65), (20, 9, 6, 48), (40, 17, 33, 100), (3, 64, 20, 256))
"""T, B, I, H."""

Call = Callable[[], list[Tensor]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a hash for every call; 1 when one differs from the file to compare with."""
    parser = argparse.ArgumentParser(prog="python -m benches.bits", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the hashes to this file")
    parser.add_argument("--against", type=Path, help="compare with the hashes in this file")
    options = parser.parse_args(arguments)
    problem = unwritable("--json", options.json)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found |= {f"{name}, {threads} threads": digest(call()) for name, call in calls()}
    total = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    print(f"{len(found)} calls on {machine.features()['tier']}: {total}")
    if options.json:
        write_json(options.json, {"machine": machine.features(), "total": total, "calls": found})
    if not options.against:
        return 0
    before = json.loads(options.against.read_text())["calls"]
    differing = [name for name in sorted(before.keys() | found.keys()) if before.get(name) != found.get(name)]
    for name in differing:
        print(f"DIFFERS {name}")
    print(f"{len(found) - len(differing)} of {len(found)} calls give the same bits")
    return int(bool(differing))


def digest(tensors: list[Tensor]) -> str:
    """Of the bytes of all tensors."""
    whole = hashlib.sha256()
    for t in tensors:
        whole.update(str((tuple(t.shape), t.dtype)).encode())
        whole.update(t.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:16]


def calls() -> Iterator[tuple[str, Call]]:
    """Every cell at every size, then layers in all their ways."""
    for name in gw.cells.names():
        for size in SIZES:
            for dtype in (torch.float32, torch.float64):
                yield f"{name} {size} {dtype}", lambda n=name, s=size, d=dtype: _trained(n, s, d)
    for name in ("gru", "gru_reset_after", "lstm"):
        for way, options in WAYS.items():
            yield f"{name} {way}", lambda n=name, o=options: _trained(n, SIZES[3], torch.float32, **o)
        yield f"{name} traced", lambda n=name: _traced(n)
        yield f"{name} streamed", lambda n=name: _streamed(n)


WAYS: dict[str, dict[str, Any]] = {
    "both directions, two layers": {"num_layers": 2, "bidirectional": True},
    "lengths": {"lengths": True},
    "resets": {"reset": True},
    "recompute": {"recompute": True},
    "bfloat16": {"half": True},
    "no gradients": {"train": False},
}


def _layer(
    name: str, size: tuple[int, ...], dtype: torch.dtype, **options: Any
) -> tuple[Any, Tensor, dict[str, Tensor]]:
    steps, batch, width, hidden = size
    generator = torch.Generator().manual_seed(steps * batch + width * hidden)
    cell = gw.cells.get(name)
    layer = gw.Recurrent(cell, width, hidden, dtype=dtype, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) / hidden**0.5)
    columns = {"input": width, "hidden": hidden}
    inputs = {
        n: torch.rand(steps, batch, columns.get(str(w)) or int(w), generator=generator, dtype=dtype)
        for n, w in cell.inputs
    }
    return layer, torch.randn(steps, batch, width, generator=generator, dtype=dtype), inputs


def _trained(
    name: str,
    size: tuple[int, ...],
    dtype: torch.dtype,
    *,
    lengths: bool = False,
    reset: bool = False,
    half: bool = False,
    train: bool = True,
    **options: Any,
) -> list[Tensor]:
    layer, x, given = _layer(name, size, dtype, **options)
    if half:
        layer, x = layer.bfloat16(), x.bfloat16()
    steps, batch = x.shape[:2]
    if lengths:
        given["lengths"] = torch.arange(batch) % (steps + 1)
    if reset:
        given["reset"] = (torch.arange(steps)[:, None] + torch.arange(batch)) % 7 == 3
    x.requires_grad_(train)
    with torch.set_grad_enabled(train):
        y, final = layer(x, **given)
    results = [y, *(final if isinstance(final, tuple) else (final,))]
    if not train:
        return results
    loss = sum((r.double() * torch.arange(r.numel()).reshape(r.shape).sin()).sum() for r in results)
    return [*results, *torch.autograd.grad(loss, [x, *layer.parameters()])]


def _traced(name: str) -> list[Tensor]:
    layer, x, given = _layer(name, SIZES[3], torch.float32)
    seen = layer.trace(x, **given)
    return [seen.output, *seen.gates.values()]


def _streamed(name: str) -> list[Tensor]:
    layer, x, _ = _layer(name, SIZES[2], torch.float32)
    stream = layer.stream(x.shape[1])
    return [stream.step(step) for step in x]


if __name__ == "__main__":
    sys.exit(main())
