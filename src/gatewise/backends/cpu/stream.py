"""A stack of layers one step at a time: weights packed once, frames filled once, one native call a step.

Every layer is its plan without hoisting, over one step. The states lie in two slots that are read and written in turn,
and each turn has frames of its own: a step writes the addresses of x, of keyword inputs and of the output, and calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from gatewise.backends import prologue, signature
from gatewise.backends.cpu import arrays, jit, launch, openmp, pages, program
from gatewise.backends.cpu.launch import Prepared, Target
from gatewise.backends.cpu.tiers import get
from gatewise.backends.kernels import frame
from gatewise.backends.kernels.memory import Memory, Place
from gatewise.backends.kernels.sequence import Call
from gatewise.compiler.cell import Cell, is_matrix, vector_name
from gatewise.compiler.expression import Width
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


@lru_cache(maxsize=16)
def _chain(tier: str) -> Callable[[int], None]:
    return jit.load("chain", lambda: CHAIN, get(tier), ("chain",)).function("chain")


class _Layer:
    """One layer, packed: what its two frames have in common."""

    def __init__(self, call: Call, to: Target, plan: Plan) -> None:
        self.plan, self.widths, self.rows, self.units = plan, call.widths(), call.rows, call.units
        self.states = call.cell.states
        key = f"{call.cell.text}forward"
        sizes = self.rows, self.units, self.widths
        self.prepared: Prepared = launch.prepare(key, plan, to, *sizes, "transposed", openmp.threads())
        self.memory, self.panels = launch.pack_panels(self.prepared, to, self.units, call.weight)
        biases = call.biases()
        bare = [i for i in range(len(call.cell.uses)) if i not in call.layout.projected]
        self.places = call.element_wise() | call.scratch(plan) | biases
        self.places |= {f"gx.{i}": biases[f"bias.{i}"] for i in bare}
        for k, operand in enumerate(call.operands):
            self.places[f"operand.{k}"] = Place(0, 0, operand.shape[-1] * to.size)
        self.alive = call.space

    def frame(self, moving: Mapping[str, Place]) -> ctypes.Array[ctypes.c_int64]:
        places = {**self.places, **moving}
        numbers = [1, *self.prepared.header]
        for name in self.prepared.arrays:
            numbers += places[name]
        return self.prepared.frame_type(*numbers, *self.panels)

    def share(self, threads: int) -> tuple[int, int]:
        """Threads, and whether they share out units; the packed weights serve any number."""
        return launch.share(self.plan, self.rows, self.units, self.widths, threads)


def _taken(name: str, parameter: Tensor) -> Tensor:
    """A parameter by value; one that is packed is copied there."""
    parameter = parameter.resolve_neg()
    return parameter.contiguous() if is_matrix(name) else parameter.clone(memory_format=torch.contiguous_format)


class _Chain:
    """Some layers of a stack in one native call.

    Args:
        slots: the states of all layers, (2, states, layers, rows, units). first: the number of the first layer here.
        fed: names in the plan of what every call brings, in its order; the rest of a frame stays.
        below: of those, the one that is the output of the layer below, but in the first layer.
    """

    def __init__(self, to: Target, slots: Tensor, layers: Sequence[_Layer], first: int, fed: Sequence[str], below: str):
        self.to, self.slots, self.layers, self.first = to, slots, layers, first
        moving = [[self._moving(layer, k, turn, below) for k, layer in enumerate(layers)] for turn in (0, 1)]
        self.frames = [[layer.frame(m) for layer, m in zip(layers, own, strict=True)] for own in moving]
        self.lists = [self._list(turn) for turn in (0, 1)]
        self.addresses = [ctypes.addressof(numbers) for numbers in self.lists]
        self._feeds = [self._places(turn, fed, below) for turn in (0, 1)]

    def _moving(self, layer: _Layer, k: int, turn: int, below: str) -> dict[str, Place]:
        """What lies elsewhere in the other turn: the states, read here and written there, and the layer's input."""
        row = layer.units * self.to.size
        places = {}
        for s, name in enumerate(layer.states):
            before, after = (self.slots[t, s, self.first + k].data_ptr() for t in (turn, 1 - turn))
            # Step 0 is the special one: it reads the value before from an address of its own.
            places[f"state.{name}"] = Place(after, 0, row, special=0, special_base=before, special_row=row)
        if k > 0 and below:
            places[below] = Place(self.slots[1 - turn, 0, self.first + k - 1].data_ptr(), 0, row)
        return places

    def _list(self, turn: int) -> ctypes.Array[ctypes.c_int64]:
        result = self.result(turn)
        numbers = [len(self.layers), result.numel() * self.to.size, result.data_ptr(), 0]
        for layer, memory in zip(self.layers, self.frames[turn], strict=True):
            numbers += (layer.prepared.address, ctypes.addressof(memory))
        return (ctypes.c_int64 * len(numbers))(*numbers)

    def _places(self, turn: int, fed: Sequence[str], below: str) -> list[tuple[int, ctypes.Array[ctypes.c_int64], int]]:
        """Which of what is fed, and the frame and the slot that its address goes to. Nobody reads some of it."""
        found = []
        for k, (layer, memory) in enumerate(zip(self.layers, self.frames[turn], strict=True)):
            slots = frame.Frame.of(layer.plan).arrays
            for j, name in enumerate(fed):
                if name in slots and (k == 0 or name != below):
                    found.append((j, memory, slots[name] + frame.BASE))
        return found

    def result(self, turn: int) -> Tensor:
        """The output of the last layer here, (rows, units), after that turn."""
        found: Tensor = self.slots[1 - turn, 0, self.first + len(self.layers) - 1]
        return found

    def run(self, turn: int, values: Sequence[Tensor], out: Tensor | None, call: Callable[[int], None]) -> None:
        """A step; without ``out`` the result stays where ``result`` says."""
        for j, memory, slot in self._feeds[turn]:
            memory[slot] = values[j].data_ptr()
        self.lists[turn][RESULT] = self.lists[turn][SOURCE] if out is None else out.data_ptr()
        call(self.addresses[turn])

    def share(self, threads: int) -> None:
        for frames in self.frames:
            for layer, memory in zip(self.layers, frames, strict=True):
                memory[frame.THREADS], memory[frame.BY_UNITS] = layer.share(threads)


class _Here:
    """Memory that is there now, and stays: what the places of a layer point at."""

    def __init__(self, tier: str, dtype: torch.dtype) -> None:
        self.tier, self.dtype, self.size, self.held = tier, dtype, dtype.itemsize, list[Tensor]()

    def hold(self, tensor: Tensor) -> Memory:
        self.held.append(tensor)
        return Memory.of(tensor)

    def take(self, *shape: int) -> Memory:
        return self.hold(pages.empty(shape, self.dtype))

    def zeros(self, count: int) -> int:
        return self.hold(torch.zeros(count, dtype=self.dtype, device="cpu")).base

    def add(self, count: int, a: int, b: int) -> int:
        out = self.take(count).base
        numbers = (ctypes.c_int64 * arrays.SLOTS)(out, count, a, b, 0, 0, 0)
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        prototype(program.arithmetic(self.tier, self.dtype).address("add"))(ctypes.addressof(numbers), 0, 1)
        return out


def _call(
    cell: Cell,
    to: Target,
    operands: Sequence[Tensor],
    inputs: Mapping[str, Tensor],
    states: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
) -> Call:
    """One step, in memory that is there now; the weights that are packed may go afterwards."""
    here = _Here(to.tier.name, to.dtype)
    return Call(
        cell,
        here,
        [here.hold(o) for o in operands],
        {name: here.hold(value) for name, value in inputs.items()},
        [Memory.of(s) for s in states],
        {n: Memory.of(p) if is_matrix(n) else here.hold(p) for n, p in parameters.items()},
        False,
        1,
    )


class Steps:
    """Steps of a stack of layers of one cell.

    All layers are one native call, unless the cell computes with inputs before a product: then that runs in torch
    before each layer, and every layer is a call.

    Args:
        width: columns of x. rows: the batch. parameters: of every layer, by the names of ``Cell.parameter_shapes``.
        halves: whether parameters were rounded to bfloat16, so that half of their bytes need be read. threads: at most;
            None for torch's number at each step.
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
        halves: bool = False,
        threads: int | None = None,
    ) -> None:
        self.cell, self.width, self._most = cell, width, threads
        self.to = launch.target(tier, dtype, halves)
        self._operands = [node for _, node in input_operands(cell)]
        self.whole = all(node.op == "input" for node in self._operands)
        """Whether all layers are one call."""
        shape = (2, len(cell.states), len(parameters), rows, units)
        self._slots = torch.zeros(shape, dtype=dtype, device="cpu")
        self._turn = 0
        self._call = _chain(tier)
        self.pack(parameters)

    @property
    def states(self) -> Tensor:
        """The states now, (states, layers, rows, units), to read or to write."""
        return self._slots[self._turn]

    @property
    def remark(self) -> str:
        return "" if self.whole else f", what cell {self.cell.name} computes before a product in torch operations"

    def pack(self, parameters: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over weights, by value; the states stay.

        Raises:
            RuntimeError: for a weight of another shape, dtype or device than the cell and the other weights ask for.
        """
        self._check(parameters)
        own = [{n: _taken(n, p.detach()) for n, p in given.items()} for given in parameters]
        layers = [self._layer(k, given) for k, given in enumerate(own)]
        inputs = {name for name, _ in self.cell.inputs}
        terms = [name for name in make_plans(self.cell).input_terms if name in inputs]
        fed = [*(f"operand.{k}" for k in range(len(self._operands))), *(f"in.{name}" for name in terms)]
        below = next((f"operand.{k}" for k, node in enumerate(self._operands) if node.attr == "x" and self.whole), "")
        parts = [layers] if self.whole else [[layer] for layer in layers]
        self._chains = [_Chain(self.to, self._slots, part, k, fed, below) for k, part in enumerate(parts)]
        names = ["x", *(name for name, _ in self.cell.inputs)]
        self._terms = [names.index(name) for name in terms]
        self._order = [names.index(str(node.attr)) for node in self._operands] + self._terms if self.whole else []
        self._vectors = [{n: given[vector_name(n)] for n, _ in self.cell.vectors} for given in own]
        self._share(self._wanted())

    def _check(self, parameters: Sequence[Mapping[str, Tensor]]) -> None:
        units = self._slots.shape[-1]
        for k, given in enumerate(parameters):
            expected = signature.parameters(self.cell, given, self.width if k == 0 else units, units)
            signature.check_shapes(self.cell, expected)
            names = [f"{what} of layer {k}" for what, _, _ in expected]
            signature.check_memory([tensor for _, tensor, _ in expected], names, self.to.dtype)

    def _layer(self, k: int, parameters: Mapping[str, Tensor]) -> _Layer:
        states = list(self._slots[0, :, k])
        rows, units = states[0].shape
        columns: dict[Width, int] = {"input": self.width if k == 0 else units, "hidden": units}

        def memory(width: Width) -> Tensor:
            made: Tensor = states[0].new_empty(1, rows, columns.get(width) or int(width))
            return made

        operands = [memory(node.width) for node in self._operands]
        inputs = {name: memory(width) for name, width in self.cell.inputs}
        inputs |= {name: parameters[vector_name(name)].expand(1, rows, -1) for name, _ in self.cell.vectors}
        terms = {name: inputs[name] for name in make_plans(self.cell).input_terms}
        matrices = {name: p for name, p in parameters.items() if not name.startswith(vector_name(""))}
        call = _call(self.cell, self.to, operands, terms, states, matrices)
        return _Layer(call, self.to, make_plans(self.cell, False).forward)

    def _wanted(self) -> int:
        """Threads of a step now: torch.set_num_threads may have been called, or the process forked, and have one."""
        if self._most == 1:
            return 1
        threads = openmp.threads()
        return threads if self._most is None else min(threads, self._most)

    def _share(self, threads: int) -> None:
        self._threads = threads
        for chain in self._chains:
            chain.share(threads)

    def step(self, x: Tensor, out: Tensor, given: Sequence[Tensor] = ()) -> None:
        """Write the last layer's output into ``out``, (rows, units).

        Args:
            x: (rows, width). given: the cell's keyword inputs, (rows, width) each. All contiguous, and of these sizes.

        Raises:
            RuntimeError: for a tensor whose memory is not there.
        """
        for tensor in (x, out, *given):
            if (
                not tensor.data_ptr()
                or tensor.untyped_storage().nbytes() < tensor.nbytes + tensor.storage_offset() * self.to.size
            ):
                signature.check_memory([tensor], ["a tensor of a step"], self.to.dtype)
        if (threads := self._wanted()) != self._threads:
            self._share(threads)
        turn, values = self._turn, (x, *given)
        if self.whole:
            self._chains[0].run(turn, [values[k] for k in self._order], out, self._call)
        else:
            self._one_by_one(turn, values, out)
        self._turn = 1 - turn

    def _one_by_one(self, turn: int, values: Sequence[Tensor], out: Tensor) -> None:
        steps, results, _ = prologue.prologue(self.cell.text)
        names = ["x", *(name for name, _ in self.cell.inputs)]
        terms = [values[k] for k in self._terms]
        for chain, vectors in zip(self._chains, self._vectors, strict=True):
            with torch.no_grad():
                computed = prologue.operands(steps, results, {**dict(zip(names, values, strict=True)), **vectors})
            last = chain is self._chains[-1]
            chain.run(turn, [*(o.contiguous() for o in computed), *terms], out if last else None, self._call)
            values = (chain.result(turn), *values[1:])
