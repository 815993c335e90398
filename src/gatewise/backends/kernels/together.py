"""Several calls as one program in which each runs on a thread of its own: the directions of a layer side by side, the
layers of a stack as a wave-front, where one call alone leaves threads idle.

Bits are those of the calls in turn, since the bits of a call depend neither on its threads nor on its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice

from torch import Tensor

from gatewise.backends.base import Arriving, Machine, Meaning
from gatewise.backends.kernels import recipe, sequence
from gatewise.backends.kernels.calls import Asked, Given, Outputs, Tensors, builder_of, sorted_out
from gatewise.backends.kernels.memory import Memory
from gatewise.backends.kernels.program import Program
from gatewise.backends.kernels.recipe import Recipe
from gatewise.compiler.cell import Cell
from gatewise.compiler.plan import make_plans

WAVES = 16
"""Parts at most that a layer of a stack is taken in."""
SHORTEST = 16
"""Steps at least of a part: each costs a barrier and a turn of frames."""


class SideBySide:
    """See ``base.Together``."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._known = lru_cache(maxsize=1024)(self._pays)

    def pays(self, cell: Cell, steps: int, rows: int, columns: int, units: int, size: int) -> bool:
        threads = self._machine.threads()
        return threads > 1 and self._known(threads, cell, steps, rows, columns, units, size)

    def _pays(self, _: int, cell: Cell, steps: int, rows: int, columns: int, units: int, size: int) -> bool:
        if 0 in (steps, rows, units):
            return False
        plans = make_plans(cell, rows < 8)  # as ``sequence.hoists`` has it for few rows
        widths = {f"operand.{k}": columns for k in range(len(plans.inputs))}
        return self._machine.idle(plans.forward, steps, rows, units, widths, size)

    def forward(
        self, identity: Sequence[str], meanings: Sequence[Meaning], groups: Sequence[Tensors]
    ) -> list[list[Tensor]]:
        whole = list(chain.from_iterable(groups))

        def build() -> Recipe:
            givens = [Given(*meaning(), own) for meaning, own in zip(meanings, groups, strict=True)]
            builder = builder_of(self._machine, *givens)
            calls = [given.call(builder) for given in givens]
            outputs = [Outputs(builder, given) for given in givens]
            for thread, (call, output) in enumerate(zip(calls, outputs, strict=True)):
                with builder.program.alone(thread):
                    output.write(call)
            return builder.finish()

        found = iter(recipe.find(("together", *identity), self._machine.threads(), whole, build)(whole))
        return [list(islice(found, _results(meaning))) for meaning in meanings]

    def backward(
        self, identity: Sequence[str], meanings: Sequence[Meaning], arriving: Sequence[Arriving]
    ) -> list[list[Tensor | None]]:
        whole = list(chain.from_iterable(own.whole() for own in arriving))

        def build() -> Recipe:
            asked = [Asked(meaning, own) for meaning, own in zip(meanings, arriving, strict=True)]
            builder = builder_of(self._machine, *[one.called for one in asked])
            for one in asked:
                one.name(builder)
            for one in asked:
                one.results(builder)
            for thread, one in enumerate(asked):
                with builder.program.alone(thread):
                    one.write()
            return builder.finish()

        key = ("together", *identity, *[own.key() for own in arriving])
        found = iter(recipe.find(key, self._machine.threads(), whole, build)(whole))
        return [sorted_out(meaning, own, found) for meaning, own in zip(meanings, arriving, strict=True)]

    def stack(self, identity: tuple[str, str], meaning: Meaning, x: Tensor, groups: Sequence[Tensors]) -> list[Tensor]:
        whole, threads = [x, *chain.from_iterable(groups)], self._machine.threads()

        def build() -> Recipe:
            cell, options = meaning()
            first = Given(cell, options, [x, *groups[0]])
            between = groups[0][0].new_empty(1).expand(first.shape)  # stands for outputs, which are no tensors here
            upper = [Given(cell, options, [between, *own]) for own in groups[1:]]
            for given in upper:
                del given.expected[0]
            builder = builder_of(self._machine, first, *upper)
            outputs = [builder.program.take(*first.shape) for _ in upper]
            calls = [first.call(builder)]
            calls += [given.call(builder, operand=below) for given, below in zip(upper, outputs, strict=True)]
            outputs.append(builder.result(*first.shape))
            finals = [[builder.result(*first.shape[1:]) for _ in cell.states] for _ in calls]
            _wave_front(builder.program, threads, calls, outputs, finals)
            return builder.finish()

        return recipe.find(("stack", *identity), threads, whole, build)(whole)


def _results(meaning: Meaning) -> int:
    """How many a forward has."""
    cell, options = meaning()
    return 1 + len(cell.states) + (options.training or options.recompute)


def _wave_front(
    program: Program,
    threads: int,
    calls: Sequence[sequence.Call],
    outputs: Sequence[Memory],
    finals: Sequence[Sequence[Memory]],
) -> None:
    spans, layers = _parts(calls[0].steps), list[sequence.Recurrence]()
    threads = min(threads, len(calls))
    for k, (call, y) in enumerate(zip(calls, outputs, strict=True)):
        with program.alone(k % threads):
            layers.append(sequence.begin(program, call, y, (), y, training=False, spans=spans))
    for number, turn in enumerate(waves(len(calls), len(spans), threads)):
        if number > 0:
            program.meet()
        for thread, layer, part in turn:
            with program.alone(thread):
                layers[layer].run(*spans[part])
                if part == len(spans) - 1:
                    layers[layer].finish(finals[layer])


def _parts(steps: int) -> list[tuple[int, int]]:
    """(first step, steps) of each; all but the last a multiple of four long, as ``sequence.Recurrence`` wants them."""
    size = max(SHORTEST, -(-steps // WAVES))
    size = -(-size // 4) * 4
    return [(first, min(size, steps - first)) for first in range(0, steps, size)]


def waves(layers: int, parts: int, threads: int) -> Iterator[list[tuple[int, int, int]]]:
    """What runs at one time, turn after turn: (thread, layer, part) of each.

    A layer's part needs the one before it and that of the layer below. Upper layers go first, so that none is left to
    run alone at the end. A layer stays on its thread where it can, whose cache holds its weights.
    """
    done = [0] * layers
    while done[-1] < parts:
        ready = [k for k in range(layers) if done[k] < parts and (k == 0 or done[k - 1] > done[k])]
        free, turn = set(range(threads)), list[tuple[int, int, int]]()
        for k in ready[-threads:]:
            thread = k % threads if k % threads in free else min(free)
            free.remove(thread)
            turn.append((thread, k, done[k]))
        for _, k, _ in turn:
            done[k] += 1
        yield turn
