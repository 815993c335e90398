"""The operators on a machine: which tensors go into a cell's programs, and which come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from torch import Tensor

from gatewise.backends import signature
from gatewise.backends.base import Arriving, CallFacts, Machine, Meaning
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
        given = Given(*meaning(), tensors)
        builder = builder_of(machine, given)
        call = given.call(builder)
        Outputs(builder, given).write(call)
        return builder.finish()

    return recipe.find(identity, machine.threads(), tensors, build)(tensors)


class Outputs:
    """The results of a forward, in the order of ``forward``."""

    def __init__(self, builder: Builder, given: Given) -> None:
        cell, options = given.cell, given.options
        self.program, self.options = builder.program, options
        self.y = builder.result(*given.shape)
        self.finals = [builder.result(*given.shape[1:]) for _ in cell.states]
        self.slabs = _slabs(cell, options)
        kept = options.training or options.recompute
        self.saved = builder.result(len(self.slabs), *given.shape) if kept else self.y

    def write(self, call: sequence.Call) -> None:
        training = self.options.training
        sequence.forward(self.program, call, self.y, self.finals, self.slabs, self.saved, training=training)

    def begin(self, call: sequence.Call, spans: Sequence[tuple[int, int]]) -> sequence.Recurrence:
        """As ``write``, of whose steps none is run yet."""
        training = self.options.training
        return sequence.begin(self.program, call, self.y, self.slabs, self.saved, training=training, spans=spans)


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
        given.expected.append(("gates", gates, ((len(cell.gates), *shape),)))
        builder = builder_of(machine, given)
        call = given.call(builder)
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
    arriving: Arriving,
) -> list[Tensor | None]:
    """Gradients of operands, inputs, states and parameters; None where nobody wants one."""
    whole = arriving.whole()

    def build() -> Recipe:
        asked = Asked(meaning, arriving)
        builder = builder_of(machine, asked.called)
        asked.name(builder)
        asked.results(builder)
        asked.write()
        return builder.finish()

    found = recipe.find((identity, *arriving.key()), machine.threads(), whole, build)(whole)
    return sorted_out(meaning, arriving, iter(found))


class Asked:
    """A backward in a program: first its tensors are named, then its results, then it is written."""

    def __init__(self, meaning: Meaning, arriving: Arriving) -> None:
        self.arriving, self.called = arriving, Given(*meaning(), arriving.tensors)
        self.called.expect_backward(arriving)

    def name(self, builder: Builder) -> None:
        self.program, arriving = builder.program, self.arriving
        self.call = self.called.call(builder, backward=True)
        y, saved = builder.dense(), builder.dense()
        lanes = builder.dense if self.called.empty else builder.lanes
        dy, *finals = (None if t is None else lanes() for t in (arriving.dy, *arriving.finals))
        self.given = gradients.Given(y, saved, dy, finals)

    def results(self, builder: Builder) -> None:
        call, wanted, y = self.call, self.arriving.wanted, self.given.y
        operands, inputs, states = self.called.options.counts
        written = written_terms(call.cell)
        d_operands = [builder.result(*o.shape) for o in call.operands] if any(wanted[:operands]) else []
        terms = {n: builder.result(*y.shape) for n in call.inputs if n in written}
        own = zip(call.states, wanted[operands + inputs :], strict=False)
        d_states = [builder.result(*s.shape) if want else None for s, want in own]
        named = zip(call.parameters.items(), wanted[operands + inputs + states :], strict=True)
        d_parameters = {name: builder.result(*p.shape) for (name, p), want in named if want}
        self.wanted = gradients.Wanted(d_operands, terms, d_states, d_parameters)

    def begin(self, size: int) -> gradients.Backward:
        """As ``write``, of whose steps none is run yet; they come in parts of so many."""
        return gradients.Backward(self.program, self.call, self.given, self.wanted, size)

    def write(self) -> None:
        program = self.program
        if self.given.y.numbers == 0:
            gradients.of_nothing(program, self.call, self.given, self.wanted)
        else:
            way = recompute if self.called.options.recompute else gradients
            way.backward(program, self.call, self.given, self.wanted)


def sorted_out(meaning: Meaning, arriving: Arriving, results: Iterator[Tensor]) -> list[Tensor | None]:
    """The gradients, one after another of the tensors, from the results of a program."""
    (cell, options), wanted = meaning(), arriving.wanted
    operands, inputs, _ = options.counts
    first: list[Tensor | None] = [next(results) if any(wanted[:operands]) else None for _ in range(operands)]
    if inputs:
        written = written_terms(cell)
        named = zip(make_plans(cell).input_terms, arriving.tensors[operands : operands + inputs], strict=True)
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

    def expect_backward(self, arriving: Arriving) -> None:
        """Let there be the tensors that the backward takes behind those of the forward."""
        cell, shape, dy = self.cell, self.shape, arriving.dy
        self.expected.append(("output", arriving.y, (shape,)))
        self.expected.append(("what was saved", arriving.saved, ((len(_slabs(cell, self.options)), *shape),)))
        if dy is not None:
            self.expected.append(("gradient of the output", dy, (shape,)))
        named = zip(cell.states, arriving.finals, strict=True)
        self.expected += [(f"gradient of final state {n}", t, (shape[1:],)) for n, t in named if t is not None]

    def call(self, builder: Builder, backward: bool = False) -> sequence.Call:
        """The call whose tensors are the next of the program."""
        cell, plans = self.cell, make_plans(self.cell)
        # Sums over time and batch walk their operands at one distance from row to row.
        summed = plans.diagonal_of if backward else ()
        state = builder.dense if self.empty else builder.lanes
        return sequence.Call(
            cell,
            builder.program,
            [builder.dense() for _ in self.operands],
            {n: builder.dense() if f"in.{n}" in summed else builder.lanes() for n in plans.input_terms},
            [state() for _ in cell.states],
            {name: builder.dense() for name in self.options.names},
            self.options.reverse,
            self.steps,
        )


def builder_of(machine: Machine, *calls: Given) -> Builder:
    """The builder of a program for the tensors of some calls, which are checked.

    Raises:
        RuntimeError: for a tensor that does not fit.
    """
    names, tensors = [], []
    for given in calls:
        signature.check_shapes(given.cell, given.expected)
        signature.check_dtypes(given.cell, given.expected)
        names += [f"{what} of cell {given.cell.name}" for what, _, _ in given.expected]
        tensors += [tensor for _, tensor, _ in given.expected]
    return Builder(machine.program(calls[0].options.tier, tensors[0].dtype), tensors, names)
