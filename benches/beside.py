"""What goes along with a sequence: PackedSequences of many lengths, and traces, beside plain calls.

    python -m benches.beside

One thread, float32, 64 inputs; milliseconds of processor time, the least of several calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import gatewise as gw

LENGTHS = {
    "64 lengths, 3 to 192": torch.arange(1, 65) * 3,
    "64 lengths, 97 to 160": torch.arange(97, 161),
    "8 lengths, 24 to 192": (torch.arange(64) % 8 + 1) * 24,
}


def least(call: Callable[[], object], repeats: int = 5) -> float:
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.thread_time()
        call()
        best = min(best, time.thread_time() - start)
    return best * 1e3


def as_lengths(layer: nn.Module, packed: PackedSequence) -> torch.Tensor:
    """The same by way of padding everything."""
    x, lengths = pad_packed_sequence(packed)
    return pack_padded_sequence(layer(x, lengths=lengths)[0], lengths, enforce_sorted=False).data


def both(call: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """Without and with gradients."""
    with torch.no_grad():
        forward = least(call)
    return forward, least(lambda: call().sum().backward())


def packed(hidden: int) -> None:
    layer, theirs = gw.GRU(64, hidden), nn.GRU(64, hidden)
    for name, lengths in LENGTHS.items():
        x = pack_padded_sequence(torch.randn(int(lengths.max()), 64, 64), lengths, enforce_sorted=False)
        ways = {
            "packed": both(lambda x=x: layer(x)[0].data),
            "lengths=": both(lambda x=x: as_lengths(layer, x)),
            "torch.nn, packed": both(lambda x=x: theirs(x)[0].data),
        }
        print(f"GRU, {hidden} units, {name}")
        for way, (forward, training) in ways.items():
            print(f"    {way:18} forward {forward:7.1f} ms, training {training:8.1f} ms")


def traces() -> None:
    for steps, rows, hidden in ((100, 32, 128), (200, 1, 256), (50, 64, 512)):
        for layer in (gw.GRU(64, hidden), gw.LSTM(64, hidden)):
            x = torch.randn(steps, rows, 64)
            with torch.no_grad():
                plain = least(lambda layer=layer, x=x: layer(x))
            kept = least(lambda layer=layer, x=x: layer.trace(x))
            shape = f"{steps} steps, {rows} rows, {hidden} units"
            print(f"{type(layer).__name__:4} {shape}: call {plain:.2f} ms, trace {kept:.2f} ms ({kept / plain:.2f})")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for units in (128, 256, 512):
        packed(units)
    traces()
