"""Cells of Flax and Equinox: what they compute, run in float64, and live modules taken apart."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gatewise.errors import InputError, UnsupportedError, need
from gatewise.formats.compare import Problem, Reference, Results
from gatewise.formats.formulas import Activation, Activations, usual
from gatewise.formats.layouts import LAYOUTS, Layout
from gatewise.formats.stack import Stack

Own = Mapping[str, Tensor]
Step = Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]
ACTIVATIONS = {name: Activation(name) for name in ("sigmoid", "tanh", "relu", "softplus")}
ACTIVATIONS |= {"soft_sign": Activation("softsign"), "hard_sigmoid": Activation("hard_sigmoid", (1 / 6, 0.5))}
ACTIVATIONS |= {"elu": Activation("elu", (1.0,)), "leaky_relu": Activation("leaky_relu", (0.01,))}
"""By the names of ``jax.nn``."""


def functions() -> list[tuple[Any, Activation]]:
    """Those of ``jax.nn``, and the hyperbolic tangent of ``jax.numpy``."""
    nn, numpy = need("jax.nn", "formats"), need("jax.numpy", "formats")
    return [*((getattr(nn, name), own) for name, own in ACTIVATIONS.items()), (numpy.tanh, Activation("tanh"))]


def activation_of(function: Any, where: str) -> Activation:
    """Which activation a function is.

    Raises:
        InputError: for one that Gatewise does not know.
    """
    for one, activation in functions():
        if function is one:
            return activation
    name = getattr(function, "__name__", repr(function))
    raise UnsupportedError(
        f"{where}: the activation {name} is none of those that Gatewise knows: {', '.join(ACTIVATIONS)}"
    )


def function_of(activation: Activation) -> Any:
    """The function of ``jax.nn`` for an activation.

    Raises:
        InputError: when there is none.
    """
    return getattr(need("jax.nn", "formats"), name_of(activation))


def name_of(activation: Activation) -> str:
    """The name of an activation in ``jax.nn``.

    Raises:
        InputError: when there is none.
    """
    for name, known in ACTIVATIONS.items():
        if known == activation:
            return name
    raise UnsupportedError(f"jax.nn has no function for the activation {activation}")


def reference(layout: Layout, stored: Sequence[Own], stack: Stack) -> Reference | None:
    """The framework's own cell in float64; None where it is not installed, or no framework has this layout."""
    make = {"flax.nnx": _nnx, "flax.linen": _linen, "equinox": _equinox}.get(layout.framework)
    package = layout.framework.partition(".")[0]
    if make is None:
        return None
    try:
        need("jax", "formats")
        version = need(package, "formats").__version__
    except InputError:
        return None

    def run(given: Problem) -> Results:
        with need("jax", "formats").enable_x64(True):
            outputs, finals = [], []
            for k, own in enumerate(stored):
                step = make(layout.layer, {n: v.double().numpy() for n, v in own.items()}, stack)
                states = tuple(s[k] for s in given.initial)
                y, final = _sequence(step, given.x, states, stack.reverse or k == 1)
                outputs.append(y)
                finals.append(final)
        return Results(np.concatenate(outputs, -1), tuple(np.stack(own) for own in zip(*finals, strict=True)))

    return Reference(f"{package} {version}", run)


def _sequence(step: Step, x: Any, states: tuple[Any, ...], backwards: bool) -> tuple[Any, tuple[Any, ...]]:
    numpy = need("jax.numpy", "formats")
    states, outputs = tuple(numpy.asarray(s) for s in states), []
    for t in range(x.shape[1] - 1, -1, -1) if backwards else range(x.shape[1]):
        states = step(numpy.asarray(x[:, t]), states)
        outputs.append(np.asarray(states[0]))
    return np.stack(outputs[::-1] if backwards else outputs, 1), tuple(np.asarray(s) for s in states)


def _options(layer: str, stack: Stack) -> dict[str, Any]:
    """The activations of a Flax cell."""
    used = [function_of(a) for a in stack.activations]
    if layer == "SimpleCell":
        return {"activation_fn": used[0]}
    if len(stack.activations) == 3 and stack.activations[1] != stack.activations[2]:
        raise UnsupportedError("Flax's LSTM has one activation for the candidate and the output")
    return {"gate_fn": used[0], "activation_fn": used[1]}


def _carry(layer: str, states: tuple[Any, ...]) -> Any:
    """Flax's LSTM carries (c, h)."""
    return states[0] if len(states) == 1 else (states[1], states[0])


def _states(carry: Any) -> tuple[Any, ...]:
    return (carry[1], carry[0]) if isinstance(carry, tuple) else (carry,)


def _nnx(layer: str, arrays: Mapping[str, Any], stack: Stack) -> Step:
    cell = nnx_cell(layer, arrays, stack, np.float64)
    return lambda x, states: _states(cell(_carry(layer, states), x)[0])


def nnx_cell(layer: str, arrays: Mapping[str, Any], stack: Stack, dtype: Any) -> Any:
    """A cell of Flax nnx with these arrays."""
    nnx, numpy = need("flax.nnx", "formats"), need("jax.numpy", "formats")
    kind = getattr(nnx, layer)
    options = {**_options(layer, stack), "dtype": dtype, "param_dtype": dtype, "rngs": nnx.Rngs(0)}
    cell = kind(stack.input_size, stack.hidden_size, **options)
    for name, value in arrays.items():
        dense, _, which = name.partition(".")
        getattr(getattr(cell, dense), which).set_value(numpy.asarray(value, dtype))
    return cell


def _linen(layer: str, arrays: Mapping[str, Any], stack: Stack) -> Step:
    cell = linen_cell(layer, stack, np.float64)
    tree = {"params": nested(arrays)}
    return lambda x, states: _states(cell.apply(tree, _carry(layer, states), x)[0])


def linen_cell(layer: str, stack: Stack, dtype: Any) -> Any:
    """A cell of Flax linen, which keeps its arrays outside."""
    kind = getattr(need("flax.linen", "formats"), layer)
    return kind(features=stack.hidden_size, **_options(layer, stack), dtype=dtype, param_dtype=dtype)


def nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """A tree from names with dots."""
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def _equinox(layer: str, arrays: Mapping[str, Any], stack: Stack) -> Step:
    cell, vmap = equinox_cell(layer, arrays, stack, np.float64), need("jax", "formats").vmap

    def step(x: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
        new = vmap(cell)(x, states if len(states) > 1 else states[0])
        return new if isinstance(new, tuple) else (new,)

    return step


def equinox_cell(layer: str, arrays: Mapping[str, Any], stack: Stack, dtype: Any) -> Any:
    """A cell of Equinox with these arrays."""
    jax, equinox, numpy = (need(name, "formats") for name in ("jax", "equinox", "jax.numpy"))
    if not stack.usual_activations():
        raise UnsupportedError(f"Equinox's {layer} computes with {', '.join(map(str, usual(stack.formula)))} alone")
    kind = getattr(equinox.nn, layer)
    biases = "bias" in arrays
    cell = kind(stack.input_size, stack.hidden_size, use_bias=biases, dtype=dtype, key=jax.random.key(0))
    values = [numpy.asarray(value, dtype) for value in arrays.values()]
    return equinox.tree_at(lambda c: [getattr(c, name) for name in arrays], cell, values)


def installed(package: str) -> bool:
    """Whether it can be imported."""
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def layout_of(cell: Any) -> tuple[Layout, Activations] | None:
    """The layout and the activations of a live cell; None for a module of another class.

    Raises:
        InputError: for a cell that computes something else.
    """
    kind, module = type(cell).__name__, type(cell).__module__
    framework = {
        "flax.nnx.nn.recurrent": "flax.nnx",
        "flax.linen.recurrent": "flax.linen",
        "equinox.nn._rnn": "equinox",
    }.get(module)
    if framework is None:
        return None
    named = "LSTMCell" if framework == "flax.linen" and kind == "OptimizedLSTMCell" else kind
    layout = LAYOUTS.get(f"{framework} {named}")
    if layout is None:
        return None
    if getattr(cell, "residual", False):
        raise UnsupportedError(f"{kind}: residual=True adds the state once more, which Gatewise's RNN does not")
    if framework == "equinox":
        return layout, usual(layout.formula)
    g = activation_of(cell.activation_fn, kind)
    if layout.formula == "rnn":
        return layout, (g,)
    f = activation_of(cell.gate_fn, kind)
    return layout, ((f, g) if layout.formula == "gru_reset_after" else (f, g, g))
