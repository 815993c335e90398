"""Tiles fit into the registers, whatever the sizes, and are few."""

from dataclasses import replace
from itertools import product

import llvmlite.binding as llvm
import pytest
from kernel_cells import ALL

from gatewise.backends.cpu import jit, tiers, tile
from gatewise.compiler.plan import make_plans

SIZES = list(product((1, 2, 3, 7, 8, 16, 17, 64, 512), (1, 7, 16, 63, 65, 100, 256, 1000)))


def phases(name):
    made = make_plans(ALL[name])
    return [f for plan in (made.forward, made.backward, *made.inputs, made.project) for f in plan.phases]


@pytest.mark.parametrize("tier", ["avx512", "avx512+bf16", "avx2", "sse2", "neon"])
@pytest.mark.parametrize("name", ["gru", "lstm", "rnn", "driven"])
def test_sums_fit_into_the_registers(name, tier):
    chosen = tiers.get(tier)
    for size in (4, 8):
        length = chosen.vector_bytes // size
        for phase in phases(name):
            for rows, units in SIZES:
                found = tile.choose(phase, chosen, length, rows, units)
                sums = found.rows * phase.together * found.vectors
                assert found.rows >= 1
                assert found.vectors >= 1
                assert sums < chosen.registers or (found.rows, found.vectors) == (1, 1)


def test_a_tile_is_no_larger_than_the_work():
    """Rows that are not there would be computed in vain, and so would vectors."""
    chosen = tiers.get("avx512")
    phase = make_plans(ALL["rnn"]).forward.phases[1]
    assert tile.choose(phase, chosen, 16, 1, 1000).rows == 1
    assert tile.choose(phase, chosen, 16, 64, 1).vectors == 1


def test_few_tiles_serve_all_sizes():
    chosen = tiers.get("avx512")
    for phase in phases("gru"):
        found = {tile.choose(phase, chosen, 16, rows, units) for rows in range(1, 70) for units in range(1, 600, 7)}
        assert len(found) <= 30


def test_rows_that_are_not_there_count_where_one_product_starts_a_cycle():
    """Of four sums a unit, 8 tiles of 4 rows take 128 cycles for 32 rows, 6 of 6 rows 144."""
    phase = make_plans(ALL["lstm"]).forward.phases[1]
    plain = tiers.get("avx512")
    assert tile.choose(phase, tiers.get("avx512+bf16"), 16, 32, 512) == tile.Tile(4, 1)
    assert tile.choose(phase, replace(plain, a_cycle=1), 16, 32, 512) == tile.Tile(4, 1)
    assert tile.choose(phase, replace(plain, a_cycle=2), 16, 32, 512) == tile.Tile(6, 1)


def test_how_many_start_is_no_part_of_the_name_of_machine_code() -> None:
    """It is in the tile, which is."""
    plain = tiers.get("avx512")
    assert len({jit._digest("kernel", replace(plain, a_cycle=n), ("run",)) for n in (1, 2)}) == 1
    assert plain.a_cycle == (1 if llvm.get_host_cpu_name() == "znver4" else 2)


def test_sixteen_registers_hold_four_rows_of_a_gru():
    """12 sums, 3 vectors of weights and a number of the operand fill them: 9.8 ms for 12.6 with tiles of 2 rows."""
    phase = make_plans(ALL["gru_reset_after"]).forward.phases[1]
    assert tile.choose(phase, tiers.get("avx2"), 8, 8, 256) == tile.Tile(4, 1)
