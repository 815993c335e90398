"""Machine code for cards that are not here: what NVRTC makes of kernels, and what it needs of a multiprocessor."""

from pathlib import Path

import pytest
from cards import CARDS, H200
from compiling import needs_nvrtc
from kernel_cells import ALL, BUILT_IN

from gatewise.backends import cache
from gatewise.backends.cuda import nvrtc
from gatewise.backends.cuda.card import REGISTERS, Card
from gatewise.backends.cuda.choice import candidates
from gatewise.backends.cuda.code import code, fitting, packing_code
from gatewise.backends.cuda.cubin import resources
from gatewise.backends.cuda.gradients import backward_design
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.sequence import INFERENCE, TRAINING, forward_design

SHAPES = ((512, 64), (1024, 64), (128, 256), (256, 1))
"""Units and rows."""


def check(name: str, number: Number, card: Card, units: int, rows: int) -> None:
    """Both directions stay in registers, and within what a multiprocessor has."""
    for design in (forward_design(ALL[name], TRAINING), backward_design(ALL[name])):
        layout, found = fitting(design, number, units, rows, card)
        needed = found.resources
        assert needed.stack == 0, (layout, needed)
        assert needed.registers * layout.threads <= REGISTERS
        assert needed.shared <= 1024  # what sm_90 and later keep for themselves
        assert layout.shared(design) <= card.shared
        assert needed.code < 96 << 10  # twice the largest of today: loops are unrolled, and one too many would show


@needs_nvrtc
@pytest.mark.parametrize(("name", "card"), [("gru", "sm_90a"), ("lstm", "sm_80"), ("gate_on_gate", "sm_100")])
def test_three_cells(name: str, card: str) -> None:
    check(name, Number.BFLOAT16, CARDS[card], 512, 64)


@needs_nvrtc
@pytest.mark.parametrize("card", CARDS.values(), ids=list(CARDS))
@pytest.mark.parametrize("number", Number, ids=lambda n: n.cpp)
def test_what_packs_weights(number: Number, card: Card) -> None:
    needed = packing_code(number, card.architecture).resources
    assert needed.stack == 0
    assert needed.registers <= 64  # so that a multiprocessor has four blocks of 256 threads at once


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS.values(), ids=list(CARDS))
@pytest.mark.parametrize("number", [Number.BFLOAT16, Number.HALF, Number.TF32], ids=lambda n: n.cpp)
@pytest.mark.parametrize("name", [*BUILT_IN, "two_speeds", "piecewise"])
def test_every_built_in_cell_and_two_others(name: str, number: Number, card: Card) -> None:
    check(name, number, card, 256, 32)


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["gru", "gru_reset_after", "lstm"])
def test_shapes(name: str, shape: tuple[int, int]) -> None:
    check(name, Number.BFLOAT16, H200, *shape)


@needs_nvrtc
def test_what_the_cubin_says_is_what_the_assembler_said() -> None:
    from gatewise.backends.cuda.source import kernel, skeleton

    design = forward_design(ALL["gru"], TRAINING)
    # 512 threads, and more weights in registers than there is room for.
    layout = Layout(Number.BFLOAT16, 512, Exchange.CLUSTER, 8, 4, 1, shares=4, tiles=2, resident=4)
    cubin, log = nvrtc.compiled(kernel(design, layout), skeleton(), "sm_90a")
    found = resources(cubin)
    assert found.stack > 0
    assert f"Used {found.registers} registers" in log
    assert f"{found.stack} bytes stack frame" in log


@needs_nvrtc
def test_compiled_once_and_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gatewise.backends.cuda import code as module

    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    design = forward_design(ALL["fading"], INFERENCE)
    layout = candidates(design, Number.BFLOAT16, 32, 8, H200)[0]
    module._code.cache_clear()
    first = code(design, layout, "sm_90a")
    module._code.cache_clear()
    monkeypatch.setattr(nvrtc, "compiled", lambda *_: pytest.fail("compiled again"))
    assert code(design, layout, "sm_90a") == first


@needs_nvrtc
def test_a_source_with_a_mistake_gives_the_compilers_words() -> None:
    with pytest.raises(nvrtc.CompilationError, match='identifier "nothing" is undefined'):
        nvrtc.compiled('extern "C" __global__ void f(int* p) { *p = nothing; }', {}, "sm_90a")


def test_what_is_no_cubin_is_refused() -> None:
    with pytest.raises(ValueError, match="must be an ELF file"):
        resources(b"PK\x03\x04 and so on")
