"""GRU-D beside the GRU, milliseconds a call: ``python -m benches.custom_cell``.

What keyword inputs, a prologue and a decaying state cost: whole sequences, training steps and single steps of a stream,
of ``cells.gru_d`` on the cpu and on the eager backend, of ``gatewise.GRU`` and of ``torch.nn.GRU``, in turn. Before a
shape is timed, GRU-D on the cpu backend is compared with the eager one, and its stream with itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

import gatewise as gw
from benches.timing import Times, measure

SHAPES = ((32, 96, 5, 48), (32, 100, 64, 256))
"""Batch, time, variables, units."""
COLUMNS = ("gru_d", "GRU", "torch.nn.GRU", "gru_d, eager")
Calls = dict[str, Callable[[], object]]


def trained(layer: nn.Module, x: Tensor, inputs: dict[str, Tensor]) -> Callable[[], object]:
    """Forward, backward to the weights."""
    parameters = list(layer.parameters())

    def call() -> object:
        return torch.autograd.grad(layer(x, **inputs)[0].sum(), parameters)

    return call


def on_eager(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with gw.backend("eager"):
            return call()

    return run


def check(layer: gw.Recurrent, told: gw.nn.Gaps) -> None:
    """Stop when the kernels' numbers are not those of the equations, or a stream has other bits than the sequence."""
    y, _ = layer(told.x, **told.inputs)
    with gw.backend("eager"):
        expected, _ = layer(told.x, **told.inputs)
    if not torch.allclose(y, expected, atol=1e-5):
        raise SystemExit(f"{layer} on the cpu backend differs from eager by more than 1e-5")
    stream = layer.stream(y.shape[1])
    for t, row in enumerate(y):
        if not torch.equal(stream.step(told.x[t], **{n: v[t] for n, v in told.inputs.items()}), row):
            raise SystemExit(f"a stream of {layer} has other bits than the whole sequence")


def columns(batch: int, steps: int, width: int, units: int) -> dict[str, Calls]:
    """What is timed, by kind and name."""
    torch.manual_seed(0)
    series = torch.randn(steps, batch, width)
    told = gw.gaps(series.masked_fill(torch.rand(series.shape) < 0.6, torch.nan))
    layer = gw.Recurrent(gw.cells.gru_d, width, units)
    plain: dict[str, nn.Module] = {"GRU": gw.GRU(width, units), "torch.nn.GRU": nn.GRU(width, units)}
    check(layer, told)
    sequence: Calls = {"gru_d": lambda: layer(told.x, **told.inputs)}
    sequence |= {name: partial(other, told.x) for name, other in plain.items()}
    training: Calls = {"gru_d": trained(layer, told.x, told.inputs)}
    training |= {name: trained(other, told.x, {}) for name, other in plain.items()}
    own, other = layer.stream(), gw.GRU(width, units).stream()
    x, inputs, out = told.x[0, :1], {n: v[0, :1] for n, v in told.inputs.items()}, torch.empty(1, units)
    rival, one = plain["torch.nn.GRU"], x[None]
    steps_of: Calls = {"gru_d": lambda: own.step(x, out, **inputs), "GRU": lambda: other.step(x, out)}
    steps_of["torch.nn.GRU"] = lambda: rival(one)
    return {
        "sequence": sequence | {COLUMNS[-1]: on_eager(sequence["gru_d"])},
        "training": training | {COLUMNS[-1]: on_eager(training["gru_d"])},
        "one step": steps_of,
    }


def line(shape: tuple[int, ...], kind: str, times: dict[str, Times]) -> str:
    texts = [f"{times[name].median:.4g}" if name in times else "" for name in COLUMNS]
    ratio = times["gru_d"].median / times["GRU"].median
    return f"{','.join(map(str, shape)):15} {kind:9}" + "".join(f"{t:>14}" for t in [*texts, f"{ratio:.2f}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape and kind")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    print(f"medians in ms, {given.threads} thread(s)")
    print(f"{'B,T,I,H':15} {'':9}" + "".join(f"{head:>14}" for head in (*COLUMNS, "gru_d ÷ GRU")))
    for shape in SHAPES:
        for kind, calls in columns(*shape).items():
            with torch.set_grad_enabled(kind == "training"):
                for call in calls.values():
                    call()
                times = measure(calls, given.seconds)
            print(line(shape, kind, times), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
