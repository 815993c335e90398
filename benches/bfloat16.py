"""Time of a step of a stream in float32 and in bfloat16: ``python -m benches.bfloat16``.

The fastest of many runs, on one thread, in time of the thread.
"""

from __future__ import annotations

import time

import torch

import gatewise as gw

SIZES = ((1, 256, 256), (1, 512, 512), (1, 512, 1024), (8, 512, 1024), (1, 1024, 2048))
"""Rows, input_size, hidden_size."""
RUNS = 40


def microseconds(rows: int, inputs: int, units: int, dtype: torch.dtype) -> float:
    stream = gw.GRU(inputs, units, dtype=dtype).stream(rows)
    x, out = torch.randn(rows, inputs, dtype=dtype), torch.empty(rows, units, dtype=dtype)
    steps = max(3, 10_000_000 // (3 * units * (inputs + units)))
    found = []
    for _ in range(RUNS):
        start = time.thread_time()
        for _ in range(steps):
            stream.step(x, out)
        found.append((time.thread_time() - start) / steps)
    return 1e6 * min(found)


def main() -> None:
    torch.set_num_threads(1)
    print("| rows, inputs, units | float32 | bfloat16 |\n|---|---|---|")
    for size in SIZES:
        single, half = (microseconds(*size, dtype) for dtype in (torch.float32, torch.bfloat16))
        print(f"| {', '.join(map(str, size))} | {single:.0f} | {half:.0f} |")


if __name__ == "__main__":
    main()
