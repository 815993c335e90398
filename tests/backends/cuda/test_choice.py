"""Which layouts are chosen: all fit, and what was measured to be fast comes first."""

from dataclasses import replace

import pytest
from cards import A100, CARDS, H200
from kernel_cells import ALL

from gatewise.backends.cuda.card import REGISTERS, Card, architecture
from gatewise.backends.cuda.choice import candidates, microseconds
from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.gradients import backward_design
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.sequence import TRAINING, forward_design

SIZES = [(512, 64), (1024, 64), (2048, 16), (256, 1), (768, 16), (128, 8192), (33, 5), (1, 1), (100, 3000)]


def designs(name: str) -> tuple[Design, Design]:
    return forward_design(ALL[name], TRAINING), backward_design(ALL[name])


@pytest.mark.parametrize("card", CARDS.values(), ids=list(CARDS))
@pytest.mark.parametrize("name", ["gru", "lstm", "gru_d", "gate_on_gate", "fading"])
def test_layouts_fit_the_card(name: str, card: Card) -> None:
    for design in designs(name):
        for units, rows in SIZES:
            for layout in candidates(design, Number.HALF, units, rows, card):
                assert layout.shared(design) <= card.shared
                assert layout.threads <= 512
                assert layout.threads * 40 <= REGISTERS
                assert 0 < layout.share <= layout.rows
                assert layout.groups % layout.together == layout.shares % layout.together == 0
                assert (layout.blocks - 1) * layout.groups * 16 < layout.width <= layout.blocks * layout.groups * 16
                assert 0 <= layout.resident <= layout.steps
                assert layout.blocks <= card.multiprocessors
                assert layout.exchange is not Exchange.CLUSTER or layout.blocks in card.clusters
                assert layout.exchange is not Exchange.ALONE or layout.blocks == 1


@pytest.mark.parametrize("name", ["gru", "gru_reset_after", "lstm", "mgu"])
def test_every_size_of_the_measurements_has_a_layout(name: str) -> None:
    for design in designs(name):
        for units, rows in SIZES:
            assert candidates(design, Number.BFLOAT16, units, rows, H200), (units, rows)


def test_without_clusters_blocks_poll_the_cache() -> None:
    found = candidates(designs("gru")[0], Number.BFLOAT16, 512, 64, A100)
    assert {layout.exchange for layout in found} == {Exchange.CACHE}


def test_weights_that_do_not_fit_have_no_layout() -> None:
    assert candidates(designs("lstm")[0], Number.BFLOAT16, 4096, 16, H200) == ()
    assert candidates(designs("lstm")[0], Number.TF32, 2048, 16, H200) == ()


MEASURED = [
    # Forward of the reset-after GRU in bfloat16, one H200, prototype's kernels: µs a step.
    (Layout(Number.BFLOAT16, 512, Exchange.CLUSTER, 8, 4, 1, 2, 1, 6, share=5), 64, 1.29),
    (Layout(Number.BFLOAT16, 512, Exchange.CLUSTER, 8, 4, 4, 8, 1, 2, share=5), 64, 1.48),
    (Layout(Number.BFLOAT16, 512, Exchange.CACHE, 16, 2, 2, 8, 1, 1, share=8), 64, 1.55),
    (Layout(Number.BFLOAT16, 512, Exchange.CACHE, 32, 1, 1, 8, 2, 2, share=16), 64, 1.69),
]


@pytest.mark.parametrize(("layout", "rows", "measured"), MEASURED)
def test_estimates_are_near_what_was_measured(layout: Layout, rows: int, measured: float) -> None:
    estimate = microseconds(designs("gru_reset_after")[0], layout, H200, rows)
    assert 0.7 * measured < estimate < 1.4 * measured


def test_more_rows_than_fit_at_once_take_further_rounds() -> None:
    design, layout = designs("gru")[0], MEASURED[0][0]
    once = microseconds(design, layout, H200, 15 * 5)
    assert microseconds(design, layout, H200, 15 * 5 + 1) == pytest.approx(2 * once)
    assert microseconds(design, replace(layout, share=8), H200, 15 * 8) < 2 * once


def test_names_of_architectures() -> None:
    assert [architecture(*c) for c in ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0))] == [
        "",
        "sm_80",
        "sm_86",
        "sm_90a",
        "sm_100",
        "sm_120",
    ]
