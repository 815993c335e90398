"""The operators on a machine: which tensors go into a cell's programs, and which come out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor

from gatewise.backends import signature
from gatewise.backends.base import CallFacts, Machine, Meaning
from gatewise.backends.kernels import gradients, recipe, recompute, sequence
from gatewise.backends.kernels.layout import written_terms
from gatewise.backends.kernels.recipe import Builder, Recipe
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import make_plans

Tensors = Sequence[Tensor]


def forward(
    machine: Machine,
    identity: tuple[str, str],
    meaning: Meaning,
    tensors: Tensors,
) -> list[Tensor]:
    """The output (T, B, H), the final states, and where there is a backward, what it needs: (slabs, T, B, H).

    Args:
        identity: of the cell and the options; ``meaning`` gives them.
    """

    def build() -> Recipe:
        cell, options = meaning()
        given = Given(cell, options, tensors)
        builder = given.checked(machine)
        call = _call(builder, cell, options, given)
        shape = (call.steps, call.rows, call.units)
        y = builder.result(*shape)
        finals = [builder.result(*shape[1:]) for _ in cell.states]
        slabs = _slabs(cell, options)
        kept = options.training or options.recompute
        saved = builder.result(len(slabs), *shape) if kept else y
        sequence.forward(builder.program, call, y, finals, slabs, saved, training=options.training)
        return builder.finish()

    return recipe.find(identity, machine.threads(), tensors, build)(tensors)


def trace(
    machine: Machine,
    identity: tuple[str, str],
    meaning: Meaning,
    tensors: Tensors,
    gates: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """The output and the final states; ``gates``, (gate, T, B, H), is filled with the gates' values."""
    if any(signature.overlap(gates, tensor) for tensor in tensors):
        raise RuntimeError("gates must have memory of its own, got that of a tensor which the call reads")
    whole = (*tensors, gates)

    def build() -> Recipe:
        cell, options = meaning()
        given = Given(cell, options, tensors)
        shape = given.shape
        builder = given.checked(machine, ("gates", gates, ((len(cell.gates), *shape),)))
        call = _call(builder, cell, options, given)
        values = builder.in_place()
        y = builder.result(*shape)
        finals = [builder.result(*shape[1:]) for _ in cell.states]
        sequence.trace(builder.program, call, y, finals, values)
        return builder.finish()

    y, *finals = recipe.find(("trace", *identity), machine.threads(), whole, build)(whole)
    return y, finals


def backward(
    machine: Machine,
    identity: tuple[str, str],
    meaning: Meaning,
    tensors: Tensors,
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    finals: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of operands, inputs, states and parameters; None where nobody wants one."""
    arriving = (dy, *finals)
    whole = (*tensors, y, saved, *[t for t in arriving if t is not None])

    def build() -> Recipe:
        cell, options = meaning()
        called = Given(cell, options, tensors)
        builder = called.checked(machine, *called.of_backward(y, saved, dy, finals))
        call = _call(builder, cell, options, called, backward=True)
        given_y, given_saved = builder.dense(), builder.dense()
        lanes = builder.dense if called.empty else builder.lanes
        given_dy, *given_finals = (None if t is None else lanes() for t in arriving)
        given = gradients.Given(given_y, given_saved, given_dy, given_finals)
        written = written_terms(cell)
        d_operands = [builder.result(*o.shape) for o in call.operands] if any(wanted[:operands]) else []
        terms = {n: builder.result(*y.shape) for n in call.inputs if n in written}
        own = zip(call.states, wanted[operands + inputs :], strict=False)
        d_states = [builder.result(*s.shape) if want else None for s, want in own]
        named = zip(call.parameters.items(), wanted[operands + inputs + states :], strict=True)
        d_parameters = {name: builder.result(*p.shape) for (name, p), want in named if want}
        results = gradients.Wanted(d_operands, terms, d_states, d_parameters)
        if given_y.numbers == 0:
            gradients.of_nothing(builder.program, call, given, results)
        else:
            (recompute if options.recompute else gradients).backward(builder.program, call, given, results)
        return builder.finish()

    key = (identity, tuple(wanted), *[t is None for t in arriving])
    cell, options = meaning()
    operands, inputs, states = options.counts
    results = iter(recipe.find(key, machine.threads(), whole, build)(whole))
    first: list[Tensor | None] = [next(results) if any(wanted[:operands]) else None for _ in range(operands)]
    if inputs:
        written = written_terms(cell)
        named = zip(make_plans(cell).input_terms, tensors[operands : operands + inputs], strict=True)
        first += [summed(value, next(results) if name in written else None) for name, value in named]
    return [*first, *[next(results) if want else None for want in wanted[operands + inputs :]]]


def summed(value: Tensor, term: Tensor | None) -> Tensor:
    """The gradient of a keyword input from its terms of hidden width; one of width 1 sums them over units."""
    if term is None:
        return value.new_zeros(value.shape)
    return term if value.shape[-1] == term.shape[-1] != 1 else term.sum(-1, keepdim=True)


def _slabs(cell: Cell, options: CallFacts) -> Sequence[str]:
    """What the forward keeps for the backward, (T, B, H) each."""
    return sequence.gate_slabs(cell) if options.training else cell.states[1:] if options.recompute else ()


class Given:
    """The tensors of a call, checked against each other and against the cell.

    Raises:
        RuntimeError: for a tensor of another shape than the cell and the other tensors ask for.
    """

    def __init__(self, cell: Cell, options: CallFacts, tensors: Tensors) -> None:
        first, second, third = accumulate(options.counts)
        self.cell, self.options, self.operands = cell, options, tensors[:first]
        inputs, states, parameters = tensors[first:second], tensors[second:third], tensors[third:]
        self.inputs, self.states, self.parameters, self.like = inputs, states, parameters, tensors[0]
        terms = make_plans(cell).input_terms
        counts = (len(inputs), len(states), len(parameters))
        if counts != (len(terms), len(cell.states), len(options.names)) or second == 0:
            raise RuntimeError(f"the tensors of a call of cell {cell.name} do not fit its options, got {counts}")
        named = dict(zip(terms, inputs, strict=True))
        self.expected = signature.operands(cell, self.operands, named, states)
        self.shape = self.steps, self.rows, self.units = int(tensors[0].shape[0]), *states[0].shape
        self.empty = 0 in self.shape
        """Whether there is nothing to compute."""
        columns = signature.input_size(cell, self.operands, named)
        own = dict(zip(options.names, parameters, strict=True))
        self.expected += signature.parameters(cell, own, columns, self.units)

    def of_backward(
        self, y: Tensor, saved: Tensor, dy: Tensor | None, finals: Sequence[Tensor | None]
    ) -> list[signature.Expected]:
        """The tensors that the backward takes beside those of the forward."""
        cell, shape = self.cell, self.shape
        expected: list[signature.Expected] = [("output", y, (shape,))]
        expected.append(("what was saved", saved, ((len(_slabs(cell, self.options)), *shape),)))
        if dy is not None:
            expected.append(("gradient of the output", dy, (shape,)))
        named = zip(cell.states, finals, strict=True)
        return expected + [(f"gradient of final state {n}", t, (shape[1:],)) for n, t in named if t is not None]

    def checked(self, machine: Machine, *further: signature.Expected) -> Builder:
        """The builder of a program for these tensors, and for further ones behind them."""
        expected = [*self.expected, *further]
        signature.check_shapes(self.cell, expected)
        signature.check_dtypes(self.cell, expected)
        names = [f"{what} of cell {self.cell.name}" for what, _, _ in expected]
        tensors = [tensor for _, tensor, _ in expected]
        return Builder(machine.program(self.options.tier, tensors[0].dtype), tensors, names)


def _call(builder: Builder, cell: Cell, options: CallFacts, given: Given, backward: bool = False) -> sequence.Call:
    plans = make_plans(cell)
    # Sums over time and batch walk their operands at one distance from row to row.
    summed = plans.diagonal_of if backward else ()
    state = builder.dense if given.empty else builder.lanes
    return sequence.Call(
        cell,
        builder.program,
        [builder.dense() for _ in given.operands],
        {n: builder.dense() if f"in.{n}" in summed else builder.lanes() for n in plans.input_terms},
        [state() for _ in cell.states],
        {name: builder.dense() for name in options.names},
        options.reverse,
        given.steps,
    )
