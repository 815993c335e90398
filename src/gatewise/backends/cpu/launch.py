"""Runs plans: chooses tiles and threads, packs weights, fills the frame, calls the machine code."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gatewise.backends.cpu import emit, frame, jit, openmp, pack, tile
from gatewise.backends.cpu.emit import Options, Tile
from gatewise.backends.cpu.frame import Frame
from gatewise.backends.cpu.tiers import Tier, get
from gatewise.compiler.plan import Plan, Product

_NAMES = {torch.float32: "float32", torch.float64: "float64"}
_ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Where an array lies: addresses, and strides in bytes. See ``frame`` for the fields."""

    base: int
    stride: int = 0
    row: int = 0
    mask: int = -1
    shift: int = 0
    special: int = -1
    special_base: int = 0
    special_row: int = 0

    def numbers(self) -> tuple[int, ...]:
        return (
            self.base,
            self.stride,
            self.row,
            self.mask,
            self.shift,
            self.special,
            self.special_base,
            self.special_row,
        )


@dataclass(frozen=True)
class Block:
    """A weight matrix: ``transposed`` when its rows are the units of the result, else its rows are the columns."""

    address: int
    row: int
    transposed: bool


@dataclass(frozen=True)
class Target:
    """What the kernels are compiled for."""

    tier: Tier
    dtype: torch.dtype

    @property
    def size(self) -> int:
        return 4 if self.dtype == torch.float32 else 8

    @property
    def length(self) -> int:
        return self.tier.vector_bytes // self.size


@lru_cache(maxsize=16)
def target(tier: str, dtype: torch.dtype) -> Target:
    return Target(get(tier), dtype)


@lru_cache(maxsize=4096)
def _kernel(key: str, plan_key: int, options: Options, tier: Tier) -> tuple[Callable[[int], None], Frame]:
    plan = _plans[plan_key]
    full = f"{key}\n{options}"
    loaded = jit.load(full, lambda: emit.emit(plan, options), tier, ("run",))
    return loaded.function("run"), Frame.of(plan)


_plans: dict[int, Plan] = {}
"""Plans by identity; they live as long as the cache of plans they come from."""


@lru_cache(maxsize=64)
def _packer(dtype: str, tier: Tier) -> dict[bool, Callable[[int], None]]:
    loaded = jit.load(f"pack {dtype}", lambda: pack.emit(dtype, tier.vector_bytes), tier, pack.ENTRIES)
    return {True: loaded.function("transposed"), False: loaded.function("copied")}


def _panel(
    product: Product, blocks: Mapping[str, Block], depth: int, units: int, shape: Tile, to: Target, threads: int
) -> tuple[Tensor, int, int]:
    """The packed weights of a product: memory that must outlive the call, its address, bytes per block."""
    vector = to.length * to.size
    line = len(product.accumulators) * shape.vectors * vector
    count = -(-units // (shape.vectors * to.length))
    memory = torch.empty(count * depth * line + _ALIGNMENT, dtype=torch.uint8)
    address = memory.data_ptr() + (-memory.data_ptr()) % _ALIGNMENT
    run = _packer(_NAMES[to.dtype], to.tier)
    workers = threads if depth * units > 65536 else 1
    for j, name in enumerate(product.weights):
        block = blocks[name]
        place = address + j * shape.vectors * vector
        numbers = (block.address, block.row, units, depth, place, line, depth * line, shape.vectors, workers)
        _invoke(run[block.transposed], numbers)
    return memory, address, depth * line


def run(
    key: str,
    plan: Plan,
    to: Target,
    *,
    steps: int,
    rows: int,
    units: int,
    widths: Mapping[str, int],
    places: Mapping[str, Place],
    blocks: Mapping[str, Block],
) -> None:
    """Run a plan over ``steps`` steps of ``rows`` rows and ``units`` units.

    Args:
        key: names the plan among all plans, for the cache of machine code.
        widths: columns of each array that is an operand of a product, where they are not ``units``.
        places: every array of the plan. blocks: every weight of its products.
    """
    threads = _threads(plan, rows, units, widths)
    by_units = threads > 1 and rows < 8 * threads
    share_rows, share_units = (rows, -(-units // threads)) if by_units else (-(-rows // threads), units)
    shapes = tuple(tile.choose(p, to.tier, to.length, share_rows, share_units) for p in plan.phases)
    options = Options(_NAMES[to.dtype], to.tier.vector_bytes, shapes, units % to.length != 0)
    _plans[id(plan)] = plan
    call, layout = _kernel(key, id(plan), options, to.tier)
    numbers = [steps, rows, units, threads, int(by_units)]
    for array in plan.arrays:
        numbers.extend(places[array.name].numbers())
    alive: list[Tensor] = []
    for (p, _), product in _products(plan):
        depth = widths.get(product.operand.rstrip("+"), units)
        memory, address, stride = _panel(product, blocks, depth, units, shapes[p], to, threads)
        alive.append(memory)
        numbers.extend((depth, address, stride))
    assert len(numbers) == layout.size
    _invoke(call, numbers)


def _invoke(function: Callable[[int], None], numbers: Sequence[int]) -> None:
    memory = (ctypes.c_int64 * len(numbers))(*numbers)
    function(ctypes.addressof(memory))


def _products(plan: Plan) -> list[tuple[tuple[int, int], Product]]:
    return [((p, j), product) for p, phase in enumerate(plan.phases) for j, product in enumerate(phase.products)]


def _threads(plan: Plan, rows: int, units: int, widths: Mapping[str, int]) -> int:
    """Threads for a call: all of torch's, unless a step is too small to be worth a barrier."""
    threads = openmp.threads()
    if threads == 1 or rows == 0:
        return 1
    columns = sum(
        len(product.accumulators) * widths.get(product.operand.rstrip("+"), units) for _, product in _products(plan)
    )
    work = rows * units * max(columns, 1)
    # A barrier costs 0.2 to 1 µs, in which one core does about 30 000 multiply-adds.
    return threads if rows >= 8 * threads and work > 20_000 or work > 60_000 else 1


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Uninitialised memory; filled with NaN under ``torch.use_deterministic_algorithms``, which tests use."""
    return torch.empty(tuple(shape), dtype=like.dtype)
