"""What ``recompute=True`` saves and costs: peak memory and time of one training step, with and without, torch beside.

    python -m benches.recompute [--shape 32,200,256,512] [--threads 1]

Each layer runs in a process of its own. Memory is what the step adds at its peak to a process that holds the layer and
its input; time is the best of some steps, of the processor with one thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import gatewise as gw
from benches.memory import of_call
from benches.problem import Build
from benches.shapes import Shape
from gatewise import cells

LAYERS: dict[str, Build] = {
    "torch.nn.GRU": nn.GRU,
    "torch.nn.LSTM": nn.LSTM,
    "GRU": gw.GRU,
    "GRU, recompute": lambda i, h: gw.GRU(i, h, recompute=True),
    "GRU(reset_after)": lambda i, h: gw.GRU(i, h, reset_after=True),
    "GRU(reset_after), recompute": lambda i, h: gw.GRU(i, h, reset_after=True, recompute=True),
    "LSTM": gw.LSTM,
    "LSTM, recompute": lambda i, h: gw.LSTM(i, h, recompute=True),
    "lstm_peephole": lambda i, h: gw.Recurrent(cells.lstm_peephole, i, h),
    "lstm_peephole, recompute": lambda i, h: gw.Recurrent(cells.lstm_peephole, i, h, recompute=True),
}
REPEATS = 5


def measure(name: str, shape: Shape) -> dict[str, object]:
    torch.manual_seed(0)
    layer = LAYERS[name](shape.input, shape.hidden)
    x = torch.randn(shape.time, shape.batch, shape.input, requires_grad=True)
    dy = torch.randn(shape.time, shape.batch, shape.hidden)
    wanted = [x, *layer.parameters()]

    def step(steps: int | None = None) -> object:
        return torch.autograd.grad(layer(x[:steps])[0], wanted, dy[:steps])

    step(2)  # kernels are compiled or loaded here, not in the step that counts
    found = of_call(step)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for _ in range(REPEATS):
        start = clock()
        step()
        times.append(clock() - start)
    return found | {"ms": 1e3 * min(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description="What recompute saves and costs.")
    parser.add_argument("--shape", type=Shape.read, default=Shape(32, 200, 256, 512), help="B,T,I,H")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--layer", choices=LAYERS, help="this one only, in this process, as JSON")
    options = parser.parse_args()
    if options.layer:
        torch.set_num_threads(options.threads)
        print(json.dumps(measure(options.layer, options.shape)))
        return
    shape = options.shape
    output = 4 * shape.time * shape.batch * shape.hidden / 1e6
    print(f"one training step, B,T,I,H = {shape}, threads {options.threads}; input and output take ", end="")
    print(f"{4 * shape.time * shape.batch * shape.input / 1e6:.0f} and {output:.0f} MB")
    print(f"{'':30}{'peak MB':>10}{'ms':>10}")
    for name in LAYERS:
        command = [sys.executable, "-m", "benches.recompute", "--layer", name, "--shape", str(shape)]
        command += ["--threads", str(options.threads)]
        record = json.loads(subprocess.check_output(command, text=True, cwd=Path(__file__).parents[1]))
        print(f"{name:30}{record['step_mb']:10.0f}{record['ms']:10.1f}")


if __name__ == "__main__":
    main()
