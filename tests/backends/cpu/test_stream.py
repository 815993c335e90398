"""The native steps of a stream: one call for all layers, threads that come and go, every tier, its memory."""

import ctypes
import os
from collections.abc import Sequence

import pytest
import torch
from comparing import threads
from torch import Tensor

import gatewise as gw
from gatewise.backends.cpu import stream, tiers
from gatewise.backends.kernels import frame

pytestmark = pytest.mark.usefixtures("poisoned")


def steps(layer: gw.Recurrent, rows: int = 1, threads: int | None = None) -> stream.Steps:
    engine = layer.stream(rows, threads=threads)._engine
    assert isinstance(engine, stream.Steps)
    return engine


def taken(engine: stream.Steps, x: Tensor, given: Sequence[Tensor] = ()) -> Tensor:
    out = torch.empty(x.shape[0], engine.states.shape[-1], dtype=x.dtype)
    engine.step(x, out, given)
    return out


def slots(engine: stream.Steps, which: int) -> list[int]:
    """What stands in a slot of the frames of both turns."""
    return [memory[which] for chain in engine._chains for frames in chain.frames for memory in frames]


@gw.cell
def doubled(gate, x, h):  # type: ignore[no-untyped-def]
    return gw.tanh(gate.n(x + x, h))


@pytest.mark.parametrize(
    ("layer", "calls_of_a_step"),
    [
        (gw.GRU(4, 8, 3), 1),
        (gw.Recurrent(gw.cells.augru, 4, 8, 3), 1),
        (gw.Recurrent(gw.cells.gru_d, 4, 8), 1),
        (gw.Recurrent(doubled, 4, 8, 3), 3),
    ],
    ids=["x alone", "keyword", "computed", "computed, deep"],
)
def test_native_calls_of_a_step(layer: gw.Recurrent, calls_of_a_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for the stack, unless torch computes something between its layers."""
    engine = steps(layer)
    calls: list[int] = []
    call = engine._call
    monkeypatch.setattr(engine, "_call", lambda address: (calls.append(address), call(address)))
    given = [torch.randn(1, 1 if width == 1 else 4) for _, width in layer.cell.inputs]
    for _ in range(4):
        taken(engine, torch.randn(1, 4), given)
    a_step = [[chain.addresses[turn] for chain in engine._chains] for turn in (0, 1)]
    assert calls == [*a_step[0], *a_step[1]] * 2
    assert len(calls) == 4 * calls_of_a_step


def test_nothing_is_packed_at_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = steps(gw.Recurrent(gw.cells.gru_d, 4, 8))
    monkeypatch.setattr(stream.launch, "pack_panels", None)
    taken(engine, torch.randn(1, 4), [torch.randn(1, 4) for _ in range(3)])


def test_a_chain_calls_in_order_and_copies() -> None:
    seen: list[int] = []
    note = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda address: seen.append(address))
    address = ctypes.cast(note, ctypes.c_void_p).value or 0
    source, result = torch.arange(5.0), torch.zeros(6)
    numbers = [3, 20, source.data_ptr(), result.data_ptr(), address, 11, address, 22, address, 33]
    chain = (ctypes.c_int64 * len(numbers))(*numbers)
    stream._chain(tiers.default().name)(ctypes.addressof(chain))
    assert seen == [11, 22, 33]
    assert result.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 0.0]


@pytest.mark.parametrize("tier", tiers.available())
def test_every_tier(tier: str) -> None:
    with gw.backend("cpu", tier=tier):
        layer = gw.GRU(5, 17, 2)
        x = torch.randn(3, 2, 5)
        whole, _ = layer(x)
        made = layer.stream(2)
    # Outside of the block: a stream keeps the tier that it was made with.
    assert torch.equal(torch.stack([made.step(row) for row in x]), whole)
    assert made.backend == f"cpu/{tier}: asked for by name"


def test_small_steps_take_one_thread_and_large_ones_all() -> None:
    with threads(2):
        small, large = steps(gw.GRU(8, 16)), steps(gw.GRU(64, 200))
        assert slots(small, frame.THREADS) == [1, 1]
        assert slots(large, frame.THREADS) == [2, 2]
        assert slots(large, frame.BY_UNITS) == [1, 1]
        for asked, given in ((1, 1), (2, 2), (9, 2)):
            assert slots(steps(gw.GRU(64, 200), threads=asked), frame.THREADS) == [given, given]
    with threads(1):
        taken(large, torch.randn(1, 64))
        assert slots(large, frame.THREADS) == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on() -> None:
    """OpenMP's threads are gone there: a parallel region would wait for ever."""
    torch.manual_seed(0)
    layer = gw.GRU(64, 200)
    x = torch.randn(2, 1, 64)
    whole, _ = layer(x)
    with threads(2):
        made = layer.stream()
        made.step(x[0])
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(made.step(x[1]), whole[1]) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_nothing_is_written_beside_the_result() -> None:
    """Sizes that are no multiple of a vector, between guards."""
    layer = gw.LSTM(3, 13, 2)
    memory = torch.full((4, 13), 7.0)
    layer.stream(2).step(torch.randn(2, 3), memory[1:3])
    assert (memory[[0, 3]] == 7).all()
    assert (memory[1:3] != 7).all()


def test_a_cell_without_input() -> None:
    @gw.cell
    def fading(gate, x, h):  # type: ignore[no-untyped-def]
        return 0.5 * h

    made = gw.Recurrent(fading, 3, 4).stream()
    made.state = torch.ones(1, 1, 4)
    assert made.step(torch.randn(1, 3)).tolist() == [[0.5] * 4]
    assert made.step(torch.randn(1, 3)).tolist() == [[0.25] * 4]
