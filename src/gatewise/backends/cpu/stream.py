"""A stack of layers one step at a time: weights packed once, frames filled once, one native call a step.

Every layer is its plan without hoisting, over one step. The states lie in two slots that are read and written in turn,
and each turn has frames of its own: a step writes two addresses, of x and of the output, and calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from gatewise.backends.cpu import frame, jit, launch, openmp
from gatewise.backends.cpu.launch import Place, Prepared, place
from gatewise.backends.cpu.sequence import Call
from gatewise.backends.cpu.tiers import get
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import input_operands, make_plans
from gatewise.compiler.schedule import Plan

COUNT, BYTES, SOURCE, RESULT, FIRST = range(5)
"""Of a chain: how many kernels, bytes of the result, where these lie after the last kernel and where they are wanted;
then pairs of a kernel's address and its frame's."""

CHAIN = """\
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define void @chain(ptr %list) {
entry:
  %count = load i64, ptr %list
  %bytes.at = getelementptr i64, ptr %list, i64 1
  %source.at = getelementptr i64, ptr %list, i64 2
  %result.at = getelementptr i64, ptr %list, i64 3
  %first = getelementptr i64, ptr %list, i64 4
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %call ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %call, label %copy
call:
  %at = shl i64 %k, 1
  %kernel.at = getelementptr i64, ptr %first, i64 %at
  %frame.at = getelementptr i64, ptr %kernel.at, i64 1
  %kernel = load ptr, ptr %kernel.at
  %frame = load ptr, ptr %frame.at
  call void %kernel(ptr %frame)
  %k.next = add i64 %k, 1
  br label %next
copy:
  %bytes = load i64, ptr %bytes.at
  %source = load ptr, ptr %source.at
  %result = load ptr, ptr %result.at
  call void @llvm.memcpy.p0.p0.i64(ptr %result, ptr %source, i64 %bytes, i1 false)
  ret void
}
"""
"""Calls kernels in order, each with its frame, then copies the result: one call from Python for all layers."""


def native(cell: Cell) -> bool:
    """Whether a kernel's output is the next layer's operand: no keyword inputs, no arithmetic on x before a product."""
    return not cell.inputs and all(node.op == "input" for _, node in input_operands(cell))


@lru_cache(maxsize=16)
def _chain(tier: str) -> Callable[[int], None]:
    return jit.load("chain", lambda: CHAIN, get(tier), ("chain",)).function("chain")


class _Layer:
    """One layer, packed: what its two frames have in common."""

    def __init__(self, call: Call, plan: Plan) -> None:
        self.plan, self.widths, self.rows, self.units = plan, call.widths(), call.rows, call.units
        key = f"{call.cell.text}forward"
        self.prepared: Prepared = launch.prepare(key, plan, call.to, self.rows, self.units, self.widths, "transposed")
        self.memory, self.panels = launch.pack_panels(self.prepared, call.to, self.units, call.weight)
        biases = call.biases()
        bare = [i for i in range(len(call.cell.uses)) if i not in call.layout.projected]
        self.places = call.element_wise() | call.scratch(plan) | biases
        self.places |= {f"gx.{i}": biases[f"bias.{i}"] for i in bare}
        # What the places point at; the weights themselves are packed and may go.
        self.alive = [*call.alive, *(p for name, p in call.parameters.items() if not _is_packed(name))]

    def frame(self, moving: Mapping[str, Place]) -> ctypes.Array[ctypes.c_int64]:
        places = {**self.places, **moving}
        numbers = [1, *self.prepared.header]
        for name in self.prepared.arrays:
            numbers += places[name]
        return self.prepared.frame_type(*numbers, *self.panels)

    def share(self, threads: int) -> tuple[int, int]:
        """Threads, and whether they share out units; the packed weights serve any number."""
        return launch.share(self.plan, self.rows, self.units, self.widths, threads)


def _is_packed(name: str) -> bool:
    return name.startswith("weight_") and name != "weight_diagonal"


class Steps:
    """Steps of a stack of layers of one cell, ``native`` ones.

    Args:
        width: columns of x. rows: the batch. parameters: of every layer, by the names of ``Cell.parameter_shapes``.
    """

    def __init__(
        self,
        cell: Cell,
        tier: str,
        dtype: torch.dtype,
        width: int,
        rows: int,
        units: int,
        parameters: Sequence[Mapping[str, Tensor]],
    ) -> None:
        self.cell, self.width = cell, width
        self.to = launch.target(tier, dtype)
        self._slots = torch.zeros(2, len(cell.states), len(parameters), rows, units, dtype=dtype)
        self._turn = 0
        self._call = _chain(tier)
        self.pack(parameters)

    @property
    def states(self) -> Tensor:
        """The states now, (states, layers, rows, units), to read or to write."""
        return self._slots[self._turn]

    def pack(self, parameters: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over weights, by value; the states stay."""
        layers = [self._layer(k, given) for k, given in enumerate(parameters)]
        frames = [[layer.frame(self._moving(layer, k, turn)) for k, layer in enumerate(layers)] for turn in (0, 1)]
        self._layers, self._frames = layers, frames
        self._chains = [self._list(turn) for turn in (0, 1)]
        self._addresses = [ctypes.addressof(chain) for chain in self._chains]
        # A cell that does not read x has no slot for its address: it goes where nobody reads.
        slot = frame.Frame.of(layers[0].plan).arrays.get("operand.0")
        self._x_slot = 0 if slot is None else slot + frame.BASE
        self._heads = [(ctypes.c_int64 * 1)() if slot is None else first[0] for first in frames]
        self._share(openmp.threads())

    def _layer(self, k: int, parameters: Mapping[str, Tensor]) -> _Layer:
        states = list(self._slots[0, :, k])
        width = self.width if k == 0 else states[0].shape[1]
        operands = [states[0].new_empty(1, len(states[0]), width) for _ in input_operands(self.cell)]
        own = {name: p.detach() if _is_packed(name) else p.detach().clone() for name, p in parameters.items()}
        call = Call(self.cell, self.to, operands, {}, states, own, False, 1)
        return _Layer(call, make_plans(self.cell, False).forward)

    def _moving(self, layer: _Layer, k: int, turn: int) -> dict[str, Place]:
        """What lies elsewhere in the other turn: the states, read here and written there, and the layer's input."""
        size = self.to.size
        row = layer.units * size
        places = {}
        for s, name in enumerate(self.cell.states):
            before, after = (self._slots[t, s, k].data_ptr() for t in (turn, 1 - turn))
            # Step 0 is the special one: it reads the value before from an address of its own.
            places[f"state.{name}"] = place(after, 0, row, special=0, special_base=before, special_row=row)
        if k == 0:
            return places | {"operand.0": place(0, 0, self.width * size)}
        return places | {"operand.0": place(self._slots[1 - turn, 0, k - 1].data_ptr(), 0, row)}

    def _list(self, turn: int) -> ctypes.Array[ctypes.c_int64]:
        result = self._slots[1 - turn, 0, -1]
        numbers = [len(self._layers), result.numel() * self.to.size, result.data_ptr(), 0]
        for layer, memory in zip(self._layers, self._frames[turn], strict=True):
            numbers += (layer.prepared.address, ctypes.addressof(memory))
        return (ctypes.c_int64 * len(numbers))(*numbers)

    def _share(self, threads: int) -> None:
        self._threads = threads
        for frames in self._frames:
            for layer, memory in zip(self._layers, frames, strict=True):
                memory[frame.THREADS], memory[frame.BY_UNITS] = layer.share(threads)

    def step(self, x: Tensor, out: Tensor) -> None:
        """Read x, (rows, width), write the last layer's output into ``out``, (rows, units); both contiguous."""
        # torch.set_num_threads, or a fork, after which there is one.
        if openmp.threads() != self._threads:
            self._share(openmp.threads())
        turn = self._turn
        self._heads[turn][self._x_slot] = x.data_ptr()
        self._chains[turn][RESULT] = out.data_ptr()
        self._call(self._addresses[turn])
        self._turn = 1 - turn
