"""Several calls as one program in which each runs on a thread of its own: the directions of a layer side by side, the
layers of a stack as a wave-front, where one call alone leaves threads idle.

Bits are those of the calls in turn, since the bits of a call depend neither on its threads nor on its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, pairwise

from torch import Tensor

from gatewise.backends.base import Arriving, Machine, Meaning
from gatewise.backends.kernels import gradients, recipe, sequence
from gatewise.backends.kernels.calls import Asked, Given, Outputs, Tensors, builder_of, sorted_out
from gatewise.backends.kernels.program import Program
from gatewise.backends.kernels.recipe import Builder, Recipe
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
            builder, asked = self._asked(meanings, arriving)
            for thread, one in enumerate(asked):
                with builder.program.alone(thread):
                    one.write()
            return builder.finish()

        key = ("together", *identity, *[own.key() for own in arriving])
        found = iter(recipe.find(key, self._machine.threads(), whole, build)(whole))
        return [sorted_out(meaning, own, found) for meaning, own in zip(meanings, arriving, strict=True)]

    def stack(
        self, identity: tuple[str, str], meaning: Meaning, x: Tensor, groups: Sequence[Tensors]
    ) -> list[list[Tensor]]:
        whole, threads = [x, *chain.from_iterable(groups)], self._machine.threads()

        def build() -> Recipe:
            cell, options = meaning()
            first = Given(cell, options, [x, *groups[0]])
            between = groups[0][0].new_empty(1).expand(first.shape)  # stands for outputs, which are no tensors yet
            upper = [Given(cell, options, [between, *own]) for own in groups[1:]]
            for given in upper:
                given.operands = []
                del given.expected[0]
            builder = builder_of(self._machine, first, *upper)
            calls = [given.call(builder) for given in (first, *upper)]
            outputs = [Outputs(builder, given) for given in (first, *upper)]
            for call, below in zip(calls[1:], outputs[:-1], strict=True):
                call.operands = [below.y]
            _forwards(threads, calls, outputs)
            return builder.finish()

        found = iter(recipe.find(("stack", *identity), threads, whole, build)(whole))
        return [list(islice(found, _results(meaning))) for _ in groups]

    def stack_backward(
        self, identity: tuple[str, str], meaning: Meaning, arriving: Sequence[Arriving]
    ) -> list[list[Tensor | None]]:
        whole, threads = list(chain.from_iterable(own.whole() for own in arriving)), self._machine.threads()

        def build() -> Recipe:
            builder, asked = self._asked([meaning] * len(arriving), arriving)
            for one, above in pairwise(asked):
                (one.given.dy,) = above.wanted.operands
            _backwards(builder.program, threads, asked[::-1])
            return builder.finish()

        key = ("stack", *identity, *[own.key() for own in arriving])
        found = iter(recipe.find(key, threads, whole, build)(whole))
        return [sorted_out(meaning, own, found) for own in arriving]

    def _asked(self, meanings: Sequence[Meaning], arriving: Sequence[Arriving]) -> tuple[Builder, list[Asked]]:
        """Backwards in one program: the tensors of all are named before the first result."""
        asked = [Asked(meaning, own) for meaning, own in zip(meanings, arriving, strict=True)]
        builder = builder_of(self._machine, *[one.called for one in asked])
        for one in asked:
            one.name(builder)
        for one in asked:
            one.results(builder)
        return builder, asked


def _results(meaning: Meaning) -> int:
    """How many a forward has."""
    cell, options = meaning()
    return 1 + len(cell.states) + (options.training or options.recompute)


def _forwards(threads: int, calls: Sequence[sequence.Call], outputs: Sequence[Outputs]) -> None:
    """The layers of a stack, the lowest first."""
    program, threads = outputs[0].program, min(threads, len(calls))
    steps, size = calls[0].steps, _size(calls[0].steps)
    spans, layers = [(first, min(size, steps - first)) for first in range(0, steps, size)], list[sequence.Recurrence]()
    for k, (call, output) in enumerate(zip(calls, outputs, strict=True)):
        with program.alone(k % threads):
            layers.append(output.begin(call, spans))
    _in_waves(program, threads, [layer.run for layer in layers], spans)
    for k, (layer, output) in enumerate(zip(layers, outputs, strict=True)):
        with program.alone(k % threads):
            layer.finish(output.finals)


def _backwards(program: Program, threads: int, asked: Sequence[Asked]) -> None:
    """The backwards of a stack's layers, the highest first."""
    layers, threads = list[gradients.Backward](), min(threads, len(asked))
    for k, one in enumerate(asked):
        with program.alone(k % threads):
            layers.append(one.begin(_size(one.call.steps)))
    _in_waves(program, threads, [layer.run for layer in layers], layers[0].parts)
    for k, layer in enumerate(layers):
        with program.alone(k % threads):
            layer.finish()


def _in_waves(
    program: Program, threads: int, runs: Sequence[Callable[[int, int], None]], spans: Sequence[tuple[int, int]]
) -> None:
    """Run all layers over all parts, and let all threads meet."""
    for number, turn in enumerate(waves(len(runs), len(spans), threads)):
        if number > 0:
            program.meet()
        for thread, layer, part in turn:
            with program.alone(thread):
                runs[layer](*spans[part])
    program.meet()


def _size(steps: int) -> int:
    """Steps of a part: a multiple of four, as ``sequence.Recurrence`` wants them."""
    size = max(SHORTEST, -(-steps // WAVES))
    return -(-size // 4) * 4


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
