"""The kernel that packs weights, bit by bit against operations of torch: by the emulation, and on a card."""

from collections.abc import Sequence

import pytest
import torch
from compiling import needs_cpp
from emulated import Emulator, small
from kernel_cells import ALL
from packing import packed
from torch import Tensor

from gatewise.backends.cuda.gradients import backward_design
from gatewise.backends.cuda.layout import Exchange, Layout, Number
from gatewise.backends.cuda.pack import MOST, Square, Weights
from gatewise.backends.cuda.search import random_call
from gatewise.backends.cuda.sequence import TRAINING, Machine, forward_design

UNITS = [5, 16, 100, 112, 130]
MIXED = (Square("w", 2, False), Square("v", 0, True), Square("w", 0, True), Square("w", 1, False))
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
SOURCES = [pytest.param(False, id="own"), pytest.param(True, id="float32")]
numbers = pytest.mark.parametrize("number", Number, ids=lambda n: n.cpp)


def bits(values: Tensor) -> Tensor:
    """Each NaN as one, and each zero: its further bits, or the sign of what is too small, are the machine's own."""
    return torch.where(values.isnan(), torch.nan, values + 0.0).view(INTEGERS[values.element_size()])


def any_bits(dtype: torch.dtype, *shape: int, device: str = "cpu") -> Tensor:
    """Numbers of every magnitude, subnormal ones, infinities and NaN among them; ties for each of the roundings."""
    whole = torch.randint(-(2**63), 2**63 - 1, shape).view(torch.int64)
    found = whole.to(INTEGERS[dtype.itemsize]).view(dtype)
    if dtype == torch.float32:
        short = whole.to(torch.int32)
        ties = [(short & ~0x1FFF | 0x1000).view(dtype), (short & ~0xFFFF | 0x8000).view(dtype)]
        kinds = torch.stack([found, *ties, torch.randn(shape)])
        found = kinds.gather(0, torch.randint(len(kinds), (1, *shape)))[0]
    found.view(-1)[:4] = torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0], dtype=dtype)
    return found.to(device)


def parameters(number: Number, wide: bool, units: int, device: str = "cpu") -> dict[str, Tensor]:
    torch.manual_seed(units)
    dtype = torch.float32 if wide else number.dtype
    return {name: any_bits(dtype, blocks * units, units, device=device) for name, blocks in (("w", 3), ("v", 1))}


def taken(wanted: Sequence[Square], given: dict[str, Tensor], units: int) -> list[Tensor]:
    whole = [given[s.parameter][s.block * units : (s.block + 1) * units] for s in wanted]
    return [w.T if s.transposed else w for s, w in zip(wanted, whole, strict=True)]


def check(machine: Machine, layout: Layout, given: dict[str, Tensor], wanted: Sequence[Square] = MIXED) -> bool:
    """Whether the kernel makes what torch makes."""
    found = machine.pack(Weights.of(wanted, given, layout.units, layout.number), layout)
    truth = packed(taken(wanted, given, layout.units), layout)
    assert (found.dtype, found.shape, found.device) == (truth.dtype, truth.shape, truth.device)
    return torch.equal(bits(found), bits(truth))


SHAPES: dict[Exchange, dict[str, int]] = {
    Exchange.ALONE: {"shares": 3},
    Exchange.CLUSTER: {"together": 2, "shares": 2},
    Exchange.CACHE: {"blocks": 3, "together": 3, "shares": 3},
}


def laid(exchange: Exchange, number: Number, units: int) -> Layout:
    more = SHAPES[exchange] | ({} if units > 32 else {"blocks": 1})
    return small(exchange, **more)(forward_design(ALL["lstm"], TRAINING), number, units, 3)


@needs_cpp
@pytest.mark.parametrize("exchange", Exchange)
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("wide", SOURCES)
@numbers
def test_the_bits_of_torch(number: Number, wide: bool, units: int, exchange: Exchange) -> None:
    assert check(Emulator(small(exchange)), laid(exchange, number, units), parameters(number, wide, units))


@needs_cpp
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", ALL)
def test_weights_of_every_cell(name: str, backward: bool) -> None:
    call = random_call(ALL[name], Number.DOUBLE, 20, 2, 1, torch.device("cpu"))
    design = backward_design(call.cell) if backward else forward_design(call.cell, TRAINING)
    lay = small(Exchange.CLUSTER)
    layout = lay(design, Number.DOUBLE, 20, 2)
    found = call.packed(Emulator(lay), design, layout)
    weights = [call.weights([tile.weight]) for tile in design.tiles]
    weights = [w.T if t.weight.startswith(("ut.", "wt.")) else w for w, t in zip(weights, design.tiles, strict=True)]
    assert torch.equal(found, packed(weights, layout)) if weights else found.numel() == 0


@needs_cpp
def test_parameters_that_lie_apart_and_of_another_dtype() -> None:
    number, units = Number.BFLOAT16, 20
    layout = laid(Exchange.CACHE, number, units)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        columns, turned = (
            torch.randn(3 * units, 2 * units, dtype=dtype)[:, ::2],
            torch.randn(units, units, dtype=dtype).T,
        )
        given = {"w": columns, "v": turned}
        assert check(Emulator(small(Exchange.CACHE)), layout, given)


@needs_cpp
def test_more_weights_than_a_launch_takes() -> None:
    number, units = Number.TF32, 16
    wanted = [Square("w", k % 3, k % 2 == 1) for k in range(2 * MOST + 3)]
    layout = laid(Exchange.ALONE, number, units)
    assert check(Emulator(small(Exchange.ALONE)), layout, parameters(number, True, units), wanted)


FAULTS = {
    "no zeros behind the columns": ("column + right < units", "true"),
    "no zeros behind the units": ("row + down < units && ", ""),
    "halves in the other order": ("half = i / 32 % 2", "half = 1 - i / 32 % 2"),
    "registers in the other order": ("k / pair % 2 * 8", "8 - k / pair % 2 * 8"),
    "transposed": ("down * w.row + right * w.column", "down * w.column + right * w.row"),
    "groups of another warp": ("* a.together + group)", "+ group)"),
    "the first weight again": ("a.weight[tile]", "a.weight[0]"),
    "float32 read as the number": ("a.wide ?", "!a.wide ?"),
}


@needs_cpp
@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_planted_mistake_shows(fault: tuple[str, str]) -> None:
    number, units = Number.BFLOAT16, 100
    whole = {name: torch.randn(9 * units, units) for name in ("w", "v")}  # room for what is read beside a square
    given = {name: memory[4 * units : 5 * units] for name, memory in whole.items()}
    wanted = [Square("w", 0, False), Square("v", 0, True)]
    layout = laid(Exchange.CLUSTER, number, units)
    assert layout.together == 2
    assert check(Emulator(small(Exchange.CLUSTER)), layout, given, wanted)
    machine = Emulator(small(Exchange.CLUSTER), changed=(("pack.cuh", *fault),))
    assert not check(machine, layout, given, wanted)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("units", [*UNITS, 512])
@pytest.mark.parametrize("wide", SOURCES)
@numbers
def test_the_bits_of_torch_on_a_card(number: Number, wide: bool, units: int) -> None:
    from gatewise.backends.cuda.gpu import gpu

    for exchange in Exchange:
        given = parameters(number, wide, units, device="cuda")
        assert check(gpu(torch.cuda.current_device()), laid(exchange, number, units), given)
