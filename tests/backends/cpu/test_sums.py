"""Sums over time and batch behind the gradients of parameters, against float64."""

import re

import pytest
import torch
from torch import Tensor

from gatewise.backends.cpu import jit, openmp, tiers, vector_sums
from gatewise.backends.cpu.program import CpuProgram
from gatewise.backends.kernels.memory import Memory
from gatewise.backends.kernels.program import Job

TIERS = ["avx512", "avx2", "sse2", "neon"]


def rows(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.data_ptr(), tensor.stride(0) * tensor.element_size(), tensor.shape[0]


def run(tier: str, delta: Tensor, jobs: list[tuple[int, Tensor, tuple[Tensor, ...]]], fresh: bool = False) -> None:
    """On tensors where they lie: the program knows no symbolic addresses but that of its scratch memory."""
    program = CpuProgram(tier, delta.dtype)
    found = [Job(first, Memory.of(total), tuple(rows(o) for o in operand), fresh) for first, total, operand in jobs]
    program.reduce(Memory.of(delta), found)
    program.finish()
    program([])


@pytest.mark.parametrize("tier", tiers.available())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("count", "columns", "width"), [(1, 1, 2), (7, 9, 17), (256, 64, 48), (300, 70, 65), (600, 8, 3)]
)
def test_against_float64(tier: str, dtype: torch.dtype, count: int, columns: int, width: int) -> None:
    delta, right = torch.randn(count, columns, dtype=dtype), torch.randn(count, width, dtype=dtype)
    single = torch.randn(count, 1, dtype=dtype)
    half = columns // 2
    totals = [torch.zeros(shape, dtype=dtype) for shape in [(columns, width), (columns - half, 1), (columns, 1)]]
    run(tier, delta, [(0, totals[0], (right,)), (half, totals[1], (single,)), (0, totals[2], ())])
    wide = delta.double()
    expected = [wide.T @ right.double(), wide.T[half:] @ single.double(), wide.sum(0)[:, None]]
    for total, truth in zip(totals, expected, strict=True):
        tolerance = (1e-5 if dtype == torch.float32 else 1e-13) * count**0.5
        torch.testing.assert_close(total.double(), truth, rtol=tolerance, atol=tolerance)


def test_an_operand_in_two_pieces_and_a_total_that_is_added_to() -> None:
    delta, first, rest = torch.randn(270, 20), torch.randn(5, 40), torch.randn(265, 40)
    begun = torch.randn(20, 40)
    total = begun.clone()
    run(tiers.detect().name, delta, [(0, total, (first, rest))])
    torch.testing.assert_close(total, begun + delta.T @ torch.cat([first, rest]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tier", tiers.available())
def test_a_fresh_total_is_not_read_and_gets_the_bits_of_a_cleared_one(tier: str) -> None:
    delta, right, single = torch.randn(270, 21), torch.randn(270, 19), torch.randn(270, 1)
    delta[:, 3] = 0.0
    right[:, 2] *= -0.0
    found = {}
    for value, fresh in ((0.0, False), (float("nan"), True)):
        totals = [torch.full(shape, value) for shape in [(21, 19), (11, 1), (21, 1)]]
        run(tier, delta, [(0, totals[0], (right,)), (10, totals[1], (single,)), (0, totals[2], ())], fresh)
        found[fresh] = [total.view(torch.int32) for total in totals]
    assert all(torch.equal(a, b) for a, b in zip(found[True], found[False], strict=True))


def test_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    delta, right = torch.randn(700, 150), torch.randn(700, 90)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(openmp, "threads", lambda n=threads: n)
        totals = [torch.zeros(150, 90), torch.zeros(150, 1)]
        run(tiers.detect().name, delta, [(0, totals[0], (right,)), (0, totals[1], ())])
        results.append(totals)
    for totals in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(totals, results[0], strict=True))


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_assembles_and_sums_stay_in_registers(tier: str) -> None:
    chosen = tiers.get(tier)
    text = jit.assemble(vector_sums.VectorSums(chosen, "float32").text(), chosen)
    if tier.startswith("avx"):
        height, vectors = vector_sums.tile(chosen.registers)
        blocks = re.split(r"^\.?L\w+:", text, flags=re.MULTILINE)
        inner = [block for block in blocks if block.count("vfmadd") >= height * vectors * vector_sums.UNROLL]
        assert inner
        assert not any(re.search(r"vmov\w+\s+%[yz]mm\d+, \S*\(", block) for block in inner)
