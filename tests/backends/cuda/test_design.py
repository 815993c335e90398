"""What is worked out of a plan before source is written."""

from dataclasses import replace

import pytest
from kernel_cells import ALL, BUILT_IN

from gatewise import Cell
from gatewise.backends.cuda.design import Design, UnsuitableError
from gatewise.backends.cuda.gradients import backward_design
from gatewise.backends.cuda.sequence import INFERENCE, TRACED, TRAINING, forward_design
from gatewise.compiler.plan import make_plans
from gatewise.compiler.schedule import Ref


def designs(cell: Cell) -> list[Design]:
    return [*(forward_design(cell, p) for p in (INFERENCE, TRAINING, TRACED)), backward_design(cell)]


def test_the_update_gate_of_the_reset_before_gru_is_multiplied_while_values_travel() -> None:
    tiles = {tile.weight: tile for tile in forward_design(ALL["gru"], INFERENCE).tiles}
    assert [(tiles[w].phase, tiles[w].read) for w in ("u.0", "u.1", "u.2")] == [(0, 0), (0, 1), (1, 1)]


def test_one_vector_is_read_once_for_all_that_it_multiplies() -> None:
    assert [tile.vector for tile in forward_design(ALL["lstm"], INFERENCE).tiles] == [0, 0, 0, 0]


@pytest.mark.parametrize(("name", "lead"), [("gru", 0), ("lstm", 0), ("gru_d", 1), ("fading", 0)])
def test_inputs_are_loaded_ahead_where_a_step_begins_with_them(name: str, lead: int) -> None:
    assert forward_design(ALL[name], TRAINING).lead == lead


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_backward_begins_a_step_behind_the_step_before(name: str) -> None:
    assert backward_design(ALL[name]).lead == 1


@pytest.mark.parametrize("name", ALL)
def test_nothing_of_a_plan_is_lost(name: str) -> None:
    for design in designs(ALL[name]):
        plan = design.plan
        found = {*(o.name for o in design.outputs), *(v.name for v in design.vectors), *design.carries, *plan.kept}
        assert {stored for phase in plan.phases for stored, _ in phase.stores} <= found
        weights = [w for phase in plan.phases for product in phase.products for w in product.weights]
        assert sorted(tile.weight for tile in design.tiles) == sorted(weights)
        assert sum(len(design.sums(p + 1)) for p in range(design.phases)) == sum(len(p.starts) for p in plan.phases)


@pytest.mark.parametrize("name", ALL)
def test_a_sum_is_read_no_sooner_than_it_is_known(name: str) -> None:
    for design in designs(ALL[name]):
        for tile in design.tiles:
            assert design.vectors[tile.vector].event == tile.phase <= tile.read < design.phases
        for output in design.outputs:
            assert 0 <= output.point <= design.phases


def test_a_product_of_what_is_only_given_is_refused() -> None:
    plan = make_plans(ALL["gru"]).forward
    first = plan.phases[1]
    product = replace(first.products[0], operand=Ref("gx.0"))
    other = replace(plan, phases=(plan.phases[0], replace(first, products=(product,)), *plan.phases[2:]))
    with pytest.raises(UnsuitableError, match=r"a product multiplies gx\.0, which is neither a state nor"):
        Design(other, frozenset())
