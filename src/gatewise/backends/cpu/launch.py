"""Runs plans: chooses tiles and threads, packs weights, fills the frame, calls the machine code.

What depends on sizes alone is worked out once (``_prepare``); a call packs, writes addresses into the frame and goes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor

from gatewise.backends.cpu import emit, jit, pack, pages, tile
from gatewise.backends.cpu.bfloat16 import LINE
from gatewise.backends.cpu.pack import Form
from gatewise.backends.cpu.phase import KernelOptions
from gatewise.backends.cpu.products import KINDS, Products
from gatewise.backends.cpu.tiers import Tier, get
from gatewise.backends.kernels import frame
from gatewise.backends.kernels.memory import Place
from gatewise.backends.kernels.program import ALIGNMENT, Packed, Program, Weights
from gatewise.compiler.schedule import Plan, Product, Ref

_NAMES = {torch.float32: "float32", torch.float64: "float64"}
_SIZES = {torch.float32: 4, torch.float64: 8}
REMEMBERED = 4096
"""Plans at given sizes that are kept prepared."""
OWN_SHARE = 5 << 16
"""Weights (of any dtype) from which a core should read its share of them alone while rows are few."""
STRAIGHT = 4
"""Times that a call may read each weight for them to be read as they lie, and not packed. On one thread 4 steps of 8
rows of 512 units took 1.2 ms and with packed weights 2.6; 8 steps 2.5 and 2.7."""
WORTH_A_REGION = 1 << 18
"""Multiply-adds of a call's steps from which a second thread is worth waking: 100 steps of one row of 32 units, which
took 130 µs for both directions side by side, and 158 in turn."""
SECOND_LEVEL = 1 << 20
"""Bytes of weights from which kernels fetch ahead: the smaller of today's second-level caches."""


@dataclass(frozen=True)
class Target:
    """What the kernels are compiled for."""

    tier: Tier
    dtype: torch.dtype
    size: int
    length: int
    halves: bool = False
    """Whether weights are float32 that were rounded to bfloat16."""

    @property
    def products(self) -> Products:
        return KINDS[self.tier.products]

    @property
    def weight_size(self) -> int:
        """Bytes of a weight as steps read it, packed."""
        return self.products.form.number or self.size


@lru_cache(maxsize=16)
def target(tier: str, dtype: torch.dtype, halves: bool = False) -> Target:
    chosen, size = get(tier), _SIZES[dtype]
    return Target(chosen, dtype, size, chosen.vector_bytes // size, halves)


@lru_cache(maxsize=64)
def _packer(dtype: str, tier: Tier, form: Form) -> jit.Kernel:
    return jit.load(
        f"pack {dtype} {form.name}", lambda: pack.emit(dtype, tier.vector_bytes, form), tier, pack.entries(form)
    )


@dataclass(frozen=True)
class _Panel:
    """How one product's weights are packed."""

    weights: tuple[str, ...]
    depth: int
    line: int
    """Bytes per group of columns."""
    block: int
    """Bytes per block of units."""
    total: int
    vectors: int
    workers: int
    lane: int
    """Bytes per vector of units."""
    rounded: tuple[int, int, int]
    """Of the memory for rounded operands: where it has that of this product, bytes from thread to thread, bytes."""


@dataclass(frozen=True)
class Prepared:
    """A plan at given sizes: the machine code, the head of its frame and the shape of its panels."""

    address: int
    """Of the machine code, ``run(frame)``."""
    share: int
    """Of one thread's part of it, ``steps(frame, thread, threads)``."""
    header: tuple[int, ...]
    arrays: tuple[str, ...]
    panels: tuple[_Panel, ...]
    rounded: int
    """Bytes of memory for rounded operands."""
    straight: bool
    """Whether the weights are read as they lie."""
    pack: Callable[[int], None]
    pack_share: int
    frame_type: type[ctypes.Array[ctypes.c_int64]]


_prepared: dict[tuple[object, ...], Prepared] = {}


def _prepare(
    key: str,
    plan: Plan,
    to: Target,
    rows: int,
    units: int,
    widths: Mapping[str, int],
    threads: int,
    entry: str,
    steps: int,
) -> Prepared:
    threads, by_units = share(plan, rows, units, widths, threads)
    share_rows, share_units = (rows, -(-units // threads)) if by_units else (-(-rows // threads), units)
    passes = steps * -(-share_rows // tile.HEIGHTS[-1])
    straight = passes <= STRAIGHT and bool(_products(plan)) and not to.halves and to.products.straight is not None
    choose = tile.turned if straight and entry == "transposed" else tile.choose
    shapes = tuple(choose(p, to.tier, to.length, share_rows, share_units) for p in plan.phases)
    weights = _weights(plan, units, widths) * to.size
    options = KernelOptions(
        _NAMES[to.dtype],
        to.tier.vector_bytes,
        shapes,
        units % to.length != 0,
        share_rows > 1 and weights * to.weight_size // to.size > SECOND_LEVEL,
        to.halves and weights > SECOND_LEVEL,
        to.tier.products,
        entry if straight else "",
    )
    form = pack.HALVES if options.halves else to.products.form
    loaded = jit.load(f"{key}\n{options}", lambda: emit.emit(plan, options), to.tier, emit.ENTRIES)
    rounded, places = _rounded(to.products, plan, rows, units, widths, threads, by_units)
    panels = []
    for (p, j), product in _products(plan):
        depth, vectors = _depth(product, widths, units), shapes[p].vectors
        lane = form.lane(to.size, to.length)
        line = len(product.accumulators) * vectors * lane
        count = -(-units // (vectors * to.length))
        workers = threads if depth * units > 65536 else 1
        block = line * form.lines(depth)
        place = places.get((p, j), (0, 0, 0))
        panels.append(_Panel(product.weights, depth, line, block, count * block, vectors, workers, lane, place))
    size, packer = frame.Frame.of(plan, straight).size, _packer(_NAMES[to.dtype], to.tier, form)
    return Prepared(
        loaded.address("run"),
        loaded.address("steps"),
        (rows, units, threads, by_units),
        tuple(a.name for a in plan.arrays),
        tuple(panels),
        rounded,
        straight,
        packer.function(entry),
        packer.address(entry + "_share"),
        ctypes.c_int64 * size,
    )


def _rounded(
    products: Products, plan: Plan, rows: int, units: int, widths: Mapping[str, int], threads: int, by_units: int
) -> tuple[int, dict[tuple[int, int], tuple[int, int, int]]]:
    """The bytes that operands take, rounded; and for each product where its operand's begin, from thread to thread,
    and how many they are. Those products of a phase that have the same operand share it; phases have their own, since
    threads that share out the rows do not wait for each other between them.

    Threads that share out the units need all rows each. Those that share out the rows lie one behind the other; each
    may begin within a piece and, on the matrix unit, read 16 rows that are not there, which takes two pieces.
    """
    if products.writer.piece is None:
        return 0, {}
    high, columns = products.writer.piece
    pieces = -(-rows // high)
    apart = pieces + 2 if by_units else 2
    end, places = 0, dict[tuple[int, int], tuple[int, int, int]]()
    for p, phase in enumerate(plan.phases):
        begins = dict[Ref, int]()
        for j, product in enumerate(phase.products):
            across = (-(-_depth(product, widths, units) // columns) * LINE + products.writer.beside) * high
            taken = (threads * apart + (0 if by_units else pieces)) * across
            if product.operand not in begins:
                begins[product.operand], end = end, end + taken
            places[p, j] = begins[product.operand], apart * across, taken
    return end, places


def prepare(
    key: str,
    plan: Plan,
    to: Target,
    rows: int,
    units: int,
    widths: Mapping[str, int],
    entry: str,
    threads: int,
    steps: int = STRAIGHT + 1,
) -> Prepared:
    """What of a call depends on sizes and the number of threads alone; see ``Program.packed`` for the arguments.
    Without ``steps`` there are so many that weights are packed."""
    steps = min(steps, STRAIGHT + 1)
    identity = (key, to, rows, units, *widths.values(), steps, threads)
    prepared = _prepared.get(identity)
    if prepared is None:
        if len(_prepared) >= REMEMBERED:
            _prepared.clear()  # whoever varies sizes without end pays some microseconds again, and no memory
        prepared = _prepared[identity] = _prepare(key, plan, to, rows, units, widths, threads, entry, steps)
    return prepared


def _packings(units: int, weights: Weights, panel: _Panel, at: int) -> list[list[int]]:
    """What the packer gets for one product's weights."""
    rows = []
    for j, name in enumerate(panel.weights):
        (source, row), start = weights(name), at + j * panel.vectors * panel.lane
        rows.append([source, row, units, panel.depth, start, panel.line, panel.block, panel.vectors, panel.workers])
    return rows


def pack_panels(prepared: Prepared, to: Target, units: int, weights: Weights) -> tuple[Tensor, list[int]]:
    """The memory with the packed weights of all products, and the products' part of the frame: packed now."""
    memory = pages.empty((prepared.rounded + sum(p.total for p in prepared.panels) + ALIGNMENT,), torch.uint8)
    first = memory.data_ptr() + (-memory.data_ptr()) % ALIGNMENT
    address = first + prepared.rounded
    numbers: list[int] = []
    for panel in prepared.panels:
        for packing in _packings(units, weights, panel, address):
            packed = (ctypes.c_int64 * pack.SLOTS)(*packing)
            prepared.pack(ctypes.addressof(packed))
        numbers += (panel.depth, address, panel.block, first + panel.rounded[0], panel.rounded[1])
        address += panel.total
    return memory, numbers


@dataclass(frozen=True)
class Ready(Packed):
    """A plan in a program: prepared, its weights packed."""

    prepared: Prepared
    numbers: list[int]
    """The products' part of the frame."""


def packed(
    program: Program, prepared: Prepared, to: Target, units: int, weights: Weights, like: Packed | None = None
) -> Packed:
    """Pack the weights of a plan into scratch memory; see ``Program.packed``."""
    if isinstance(like, Ready) and _serves(like.prepared, prepared):
        return Ready(prepared, like.numbers)
    numbers: list[int] = []
    rounded = program.take(prepared.rounded // to.size).base
    if prepared.straight:
        for panel in prepared.panels:
            numbers += (panel.depth, 0, 0, rounded + panel.rounded[0], panel.rounded[1])
            numbers += chain.from_iterable(map(weights, panel.weights))
        return Ready(prepared, numbers)
    apart = False
    for panel in prepared.panels:
        memory = program.take(panel.total // to.size)
        for packing in _packings(units, weights, panel, memory.base):
            program.stage(prepared.pack_share, packing, threads=panel.workers, apart=apart)
            apart = True
        numbers += (panel.depth, memory.base, panel.block, rounded + panel.rounded[0], panel.rounded[1])
    return Ready(prepared, numbers)


def _serves(like: Prepared, prepared: Prepared) -> bool:
    """Whether the memory of another number of rows serves this one too."""
    if like.straight or prepared.straight:
        return False
    pairs = list(zip(like.panels, prepared.panels, strict=True))
    room = all(a.rounded[1] >= b.rounded[1] and a.rounded[2] >= b.rounded[2] for a, b in pairs)
    return room and all(a.line == b.line for a, b in pairs)


def run(program: Program, packed: Packed, *, steps: int, places: Mapping[str, Place]) -> None:
    """Write the frame of a plan's run; see ``Program.run``."""
    assert isinstance(packed, Ready)
    prepared = packed.prepared
    numbers: list[int] = [steps, *prepared.header]
    for name in prepared.arrays:
        numbers += places[name]
    program.stage(prepared.share, [*numbers, *packed.numbers], threads=prepared.header[2])


def _products(plan: Plan) -> list[tuple[tuple[int, int], Product]]:
    return [((p, j), product) for p, phase in enumerate(plan.phases) for j, product in enumerate(phase.products)]


def _depth(product: Product, widths: Mapping[str, int], units: int) -> int:
    return widths.get(product.operand.name, units)


def _useful_threads(plan: Plan, rows: int, units: int, widths: Mapping[str, int], threads: int) -> int:
    """Threads for a call: all of torch's, unless a step is too small to be worth a barrier."""
    if threads == 1 or rows == 0:
        return 1
    columns = sum(len(product.accumulators) * _depth(product, widths, units) for _, product in _products(plan))
    work = rows * units * max(columns, 1)
    # A barrier costs 0.2 to 1 µs, in which one core does about 30 000 multiply-adds.
    return threads if (rows >= 3 * threads and work > 20_000) or work > 60_000 else 1


def share(plan: Plan, rows: int, units: int, widths: Mapping[str, int], threads: int) -> tuple[int, int]:
    """Of so many threads, how many a call uses, and whether they share out the units (1) or the rows (0)."""
    threads = _useful_threads(plan, rows, units, widths, threads)
    # Rows need no barrier; units let each core keep its share of the weights. On 2 threads, 8 rows of 512
    # units ran at 216 GFLOP/s by units and 154 by rows, 32 rows of 1024 units at 325 and 280; but 8 rows of 256 units
    # with weights of 1.2 MB at 260 and 287, and 128 rows of 512 units at 323 and 344.
    few = rows < 3 * threads
    heavy = rows <= 16 * threads and _weights(plan, units, widths) > OWN_SHARE
    return threads, int(threads > 1 and (few or heavy))


def idle(plan: Plan, steps: int, rows: int, units: int, widths: Mapping[str, int], size: int, threads: int) -> bool:
    """Whether calls are faster side by side, a thread each, than one after another on so many threads: where one takes
    a single thread; or where two threads meet in every step, and weights that stay in a core's cache let each go its
    own way. Not where the whole call is over before a second thread has begun."""
    used, by_units = share(plan, rows, units, widths, threads)
    weights = _weights(plan, units, widths)
    if threads == 1 or (used > 1 and not (threads == 2 and by_units and weights * size <= SECOND_LEVEL)):
        return False
    return steps * rows * weights >= WORTH_A_REGION


def _weights(plan: Plan, units: int, widths: Mapping[str, int]) -> int:
    """How many weights a step reads."""
    return sum(len(q.accumulators) * _depth(q, widths, units) for _, q in _products(plan)) * units
