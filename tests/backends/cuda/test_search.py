"""What a search found is kept: its bookkeeping without a card, by a clock that the tests set; the search on a card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from cards import A100, H200
from compiling import needs_cpp, needs_nvrtc
from emulated import Emulator, small
from kernel_cells import ALL

from gatewise import cells
from gatewise.backends import cache
from gatewise.backends.cuda import kept
from gatewise.backends.cuda.arguments import Arguments
from gatewise.backends.cuda.choice import candidates
from gatewise.backends.cuda.code import TRIED, code, fitting
from gatewise.backends.cuda.design import Design, UnsuitableError
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.search import Fixed, fastest, random_call, runs, search
from gatewise.backends.cuda.sequence import INFERENCE, forward_design

DESIGN = forward_design(cells.gru, INFERENCE)
SIZES = (Number.BFLOAT16, 48, 5)
FIRST = candidates(DESIGN, *SIZES, H200)[:TRIED]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    fitting.cache_clear()
    yield folder
    fitting.cache_clear()


def clock(best: Layout) -> Callable[[Layout], float]:
    return lambda layout: 1.0 if layout == best else 2.0


def test_what_was_kept_is_found_again() -> None:
    assert kept.remembered(DESIGN, FIRST, 5, H200) is None
    for layout in (FIRST[3], FIRST[1]):
        kept.keep(DESIGN, FIRST, 5, H200, layout)
        assert kept.remembered(DESIGN, FIRST, 5, H200) == layout


def test_for_that_card_shape_design_and_order_alone() -> None:
    kept.keep(DESIGN, FIRST, 5, H200, FIRST[2])
    fewer = replace(H200, clusters={**H200.clusters, 16: 6})
    assert kept.remembered(DESIGN, FIRST, 5, fewer) is None
    assert kept.remembered(DESIGN, FIRST, 5, A100) is None
    assert kept.remembered(DESIGN, FIRST, 6, H200) is None
    assert kept.remembered(DESIGN, FIRST[::-1], 5, H200) is None
    assert kept.remembered(forward_design(cells.mgu, INFERENCE), FIRST, 5, H200) is None


@pytest.mark.parametrize("content", [b"", b"x", b"-1", b"99"])
def test_an_entry_that_says_nothing_is_passed_over(content: bytes) -> None:
    cache.store(kept._name(DESIGN, FIRST, 5, H200), content)
    assert kept.remembered(DESIGN, FIRST, 5, H200) is None


@needs_nvrtc
def test_the_fastest_is_taken_from_then_on() -> None:
    before = fitting(DESIGN, *SIZES, H200)[0]
    other = next(k for k in FIRST if k != before and code(DESIGN, k, H200.architecture).resources.stack == 0)
    assert fastest(DESIGN, *SIZES, H200, clock(other)) == other
    assert fitting(DESIGN, *SIZES, H200)[0] == other
    cache.clear()
    fitting.cache_clear()
    assert fitting(DESIGN, *SIZES, H200)[0] == before


def test_what_has_no_room_gets_its_sentence() -> None:
    design = forward_design(cells.lstm, INFERENCE)
    with pytest.raises(UnsuitableError, match="the weights of 4 products of 4096 units do not fit on this card"):
        fastest(design, Number.TF32, 4096, 5, H200, clock(FIRST[0]))


@needs_cpp
@pytest.mark.parametrize("name", ["gru", "gru_d"])
def test_what_is_timed_runs_the_layout_that_was_given(name: str) -> None:
    """On the emulation, whose own layout has clusters."""
    machine = Emulator(small(Exchange.CLUSTER))
    call = random_call(ALL[name], Number.DOUBLE, 20, 3, 2, torch.device("cpu"))
    for design, run in runs(machine, call):
        given = small(Exchange.CACHE)(design, Number.DOUBLE, 20, 3)
        on = Seen(machine, design, given)
        run(on)
        assert on.ran == [given]


@dataclass
class Seen(Fixed):
    """Notes what was put into the queue."""

    ran: list[Layout] = field(default_factory=list)

    def launch(self, design: Design, layout: Layout, arguments: Arguments) -> None:
        self.ran.append(layout)
        super().launch(design, layout, arguments)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", ["gru", "lstm", "gru_d"])
def test_a_search_on_a_card(name: str, own_cache: Path) -> None:
    assert len(search(cells.get(name), Number.BFLOAT16, 64, 8, steps=10)) == 3
    assert len(list(own_cache.glob("*.layout"))) == 3
