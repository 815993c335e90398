"""Which parts of a stack's layers run at one time; memory of threads that run side by side."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gatewise.backends.cpu import tiers
from gatewise.backends.cpu.program import CpuProgram
from gatewise.backends.kernels.together import _size, waves


@given(layers=st.integers(1, 6), parts=st.integers(1, 20), threads=st.integers(1, 5))
def test_a_part_runs_once_and_behind_what_it_needs(layers: int, parts: int, threads: int) -> None:
    done = set[tuple[int, int]]()
    for turn in waves(layers, parts, threads):
        assert turn
        assert len({thread for thread, _, _ in turn}) == len(turn) <= threads
        for thread, layer, part in turn:
            assert 0 <= thread < threads
            assert part == 0 or (layer, part - 1) in done
            assert layer == 0 or (layer - 1, part) in done
        now = {(layer, part) for _, layer, part in turn}
        assert not now & done
        done |= now
    assert done == {(layer, part) for layer in range(layers) for part in range(parts)}


@pytest.mark.parametrize(
    ("layers", "threads", "turns"),
    [(1, 2, 16), (2, 2, 17), (2, 4, 17), (3, 2, 25), (3, 3, 18), (4, 2, 33), (6, 2, 49)],
)
def test_no_thread_is_left_to_run_alone(layers: int, threads: int, turns: int) -> None:
    """Sixteen parts: at most a turn more than an even share."""
    assert len(list(waves(layers, 16, threads))) == turns


def test_two_layers_stay_on_their_threads() -> None:
    assert all(thread == layer for turn in waves(2, 9, 2) for thread, layer, _ in turn)


@given(steps=st.integers(1, 5000))
def test_parts_are_neither_short_nor_many(steps: int) -> None:
    size = _size(steps)
    assert size % 4 == 0
    assert size >= 16
    assert -(-steps // size) <= 16


def test_threads_side_by_side_share_no_memory() -> None:
    """What one gives back for others to take, only its own stages may take."""
    program = CpuProgram(tiers.detect().name, torch.float32)
    taken = [program.take(100)]
    for thread in (0, 1, 0):
        with program.alone(thread):
            with program.temporary():
                taken.append(program.take(100))
            again = program.take(100)
            assert again.base == taken[-1].base
    spans = sorted((memory.base, memory.base + 400) for memory in taken)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
