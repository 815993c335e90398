"""The formulas that formats store, as cells: each with any of the activations that formats name.

A formula is one of ``NAMES``; a format's choices that change it (ONNX's ``linear_before_reset``, peepholes,
``input_forget``) make another formula. Its gates, and whose two biases may be added up, are those of its cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gatewise import cells
from gatewise.compiler.cell import Cell
from gatewise.compiler.functions import (
    diagonal,
    exp,
    hard_sigmoid,
    maximum,
    minimum,
    relu,
    sigmoid,
    softplus,
    tanh,
    where,
)
from gatewise.compiler.trace import cell as traced
from gatewise.errors import UnsupportedError

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Activation:
    """A function of one number by its name, with the numbers that belong to it."""

    name: str
    numbers: tuple[float, ...] = ()

    def __str__(self) -> str:
        return self.name + (f"({', '.join(f'{n:g}' for n in self.numbers)})" if self.numbers else "")

    def __call__(self, x: Any) -> Any:
        return FUNCTIONS[self.name](x, *self.numbers)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "softplus": softplus,
    "hard_sigmoid": hard_sigmoid,
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leaky_relu": lambda x, alpha: where(x >= 0, x, alpha * x),
    "thresholded_relu": lambda x, alpha: where(x > alpha, x, 0 * x),
    "scaled_tanh": lambda x, alpha, beta: alpha * tanh(beta * x),
    "elu": lambda x, alpha: maximum(x, 0) + alpha * (exp(minimum(x, 0)) - 1),
    "softsign": lambda x: x / (1 + maximum(x, -x)),
}

SIGMOID, TANH, RELU = Activation("sigmoid"), Activation("tanh"), Activation("relu")
Activations = tuple[Activation, ...]


def _rnn(g: Function) -> Any:
    def equations(gate: Any, x: Any, h: Any) -> Any:
        return g(gate.n(x, h))

    return equations


def _gru(f: Function, g: Function) -> Any:
    def equations(gate: Any, x: Any, h: Any) -> Any:
        r = f(gate.r(x, h))
        z = f(gate.z(x, h))
        n = g(gate.n(x, r * h))
        return z * h + (1 - z) * n

    return equations


def _gru_reset_after(f: Function, g: Function) -> Any:
    def equations(gate: Any, x: Any, h: Any) -> Any:
        r = f(gate.r(x, h))
        z = f(gate.z(x, h))
        n = g(gate.n(x) + r * gate.n(h))
        return z * h + (1 - z) * n

    return equations


def _lstm(peepholes: bool, coupled: bool) -> Callable[[Function, Function, Function], Any]:
    def made(f: Function, g: Function, h_of: Function) -> Any:
        def equations(gate: Any, x: Any, h: Any, c: Any) -> Any:
            past = (diagonal(c),) if peepholes else ()
            i = None if coupled else f(gate.i(x, h, *past))
            forget = f(gate.f(x, h, *past))
            new = g(gate.g(x, h))
            o = None if peepholes else f(gate.o(x, h))
            c = forget * c + ((1 - forget) if i is None else i) * new
            o = f(gate.o(x, h, diagonal(c))) if o is None else o
            return o * h_of(c), c

        return equations

    return made


@dataclass(frozen=True)
class _Formula:
    make: Callable[..., Any]
    activations: Activations
    source: str


_FORMULAS = {
    "rnn": _Formula(_rnn, (TANH,), "Elman 1990"),
    "gru": _Formula(_gru, (SIGMOID, TANH), "Cho et al. 2014 (arXiv 1406.1078v3), eq. 5-8"),
    "gru_reset_after": _Formula(_gru_reset_after, (SIGMOID, TANH), "Cho et al. 2014 (arXiv 1406.1078v1)"),
    "lstm": _Formula(_lstm(False, False), (SIGMOID, TANH, TANH), "Gers et al. 2000"),
    "lstm_peephole": _Formula(_lstm(True, False), (SIGMOID, TANH, TANH), "Gers & Schmidhuber 2000"),
    "lstm_coupled": _Formula(_lstm(False, True), (SIGMOID, TANH, TANH), "Greff et al. 2017 (arXiv 1503.04069)"),
    "lstm_coupled_peephole": _Formula(
        _lstm(True, True), (SIGMOID, TANH, TANH), "Greff et al. 2017 (arXiv 1503.04069), CIFG with peepholes"
    ),
}
NAMES = tuple(_FORMULAS)


def usual(formula: str) -> Activations:
    """The activations of a formula where nothing else is said: of gates, of the candidate, of the LSTM's output."""
    return _FORMULAS[formula].activations


_MADE: dict[str, tuple[str, Activations]] = {}
"""What ``cell_of`` made, by the equations."""


@lru_cache(maxsize=256)
def cell_of(formula: str, activations: Activations | None = None) -> Cell:
    """The cell of a formula; a built-in one where there is one.

    Raises:
        UnsupportedError: for activations that no cell can be made of.
    """
    own = _FORMULAS[formula]
    used = own.activations if activations is None else activations
    name = formula if used == own.activations else "_".join([formula, *(a.name for a in used)])
    equations = own.make(*used)
    equations.__name__ = equations.__qualname__ = name
    equations.__doc__ = f"{own.source}, with {', '.join(map(str, used))}."
    try:
        made: Cell = traced(equations)
    except ValueError as error:
        raise UnsupportedError(f"{formula} cannot be computed with {', '.join(map(str, used))}: {error}") from None
    _MADE[made.body()] = formula, used
    return next((c for c in map(cells.get, cells.names()) if c.body() == made.body()), made)


def made() -> list[Cell]:
    """The cells that were made so far, and those with the usual activations."""
    for formula in NAMES:
        cell_of(formula)
    return [cell_of(*key) for key in _MADE.values()]


def recognised(cell: Cell) -> tuple[str, Activations] | None:
    """The formula and the activations of a cell; None where no format has it.

    ``gru_renew`` is no formula of its own: it is ``gru`` with the update gate turned round (see ``layouts``).
    """
    for formula in NAMES:
        cell_of(formula)
    cell_of("rnn", (RELU,))
    return _MADE.get(cell.body())
