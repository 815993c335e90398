"""A file before it is written: read again as a stranger would, run by its framework, and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatewise.errors import InputError, need
from gatewise.formats import keras_out, onnx_out
from gatewise.formats.compare import TOLERANCE, Problem, Reference, Results, difference, from_zero, problem, run
from gatewise.formats.found import Converted, Found
from gatewise.formats.keras import doubles, keras
from gatewise.formats.reverse import Reversed
from gatewise.formats.sources import find
from gatewise.formats.stack import GatewiseLayer, Stack, double, to_layer
from gatewise.formats.targets import TARGETS

Checks = dict[str, tuple[str, float]]
"""By layer: what its part of the file was run with, and the largest difference from Gatewise's layer."""


def checked_content(to: str, layers: Mapping[str, Converted], suffix: str) -> tuple[bytes, Checks]:
    """The bytes of a file, once what it holds was run beside Gatewise's layers.

    A file of the same layers in float64 is checked first: there nothing differs but by rounding, while the file itself
    may hold sums of two biases that were rounded to its dtype.

    Args:
        to: a name of ``TARGETS``. layers: by name. suffix: of the file.

    Raises:
        InputError: when the format has no place for a layer, or the two differ.
    """
    _check_names(to, layers)
    exact = {name: _doubled(one) for name, one in layers.items()}
    _checks(to, exact, suffix, TARGETS[to].content(exact, suffix))
    content = TARGETS[to].content(layers, suffix)
    return content, _checks(to, layers, suffix, content)


def _check_names(to: str, layers: Mapping[str, Converted]) -> None:
    """Refuse layers that would have one name in the file, where names of layers are joined with those of a stack."""
    seen: dict[str, str] = {}
    for name, one in layers.items():
        for inside in names_in(to, name, one.found.stack):
            other = seen.setdefault(inside, name)
            if other != name:
                raise InputError(f"layers {other} and {name} would both be called {inside} in the file: take one alone")


def _doubled(one: Converted) -> Converted:
    stack = double(one.found.stack)
    return Converted(replace(one.found, stack=stack), to_layer(stack), one.difference)


def _checks(to: str, layers: Mapping[str, Converted], suffix: str, content: bytes) -> Checks:
    """Reads a file as a stranger would, and runs what it holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"written{suffix}"
        path.write_bytes(content)
        plain = {name: one.found.stack.activations[-1].name for name, one in layers.items() if _is_plain(one)}
        here = {found.name: found for found in find(path, nonlinearity=plain) if isinstance(found, Found)}
        checks = {name: _check(to, name, one, here, path) for name, one in layers.items()}
        if to == "keras" and suffix == ".keras":
            _check_model(path, layers)
    return checks


def _is_plain(one: Converted) -> bool:
    return one.found.stack.formula == "rnn" and one.found.stack.activations[-1].name in ("tanh", "relu")


def _check(to: str, name: str, one: Converted, here: Mapping[str, Found], path: Path) -> tuple[str, float]:
    stack = one.found.stack
    names = names_in(to, name, stack)
    missing = [n for n in names if n not in here]
    if missing:
        raise InputError(f"layer {name}: the file that was made has no layer {', '.join(missing)}")
    reference = chain([here[n] for n in names])
    if to == "onnx":
        reference = _graph(path, name or "layer", stack, reference) or reference
    return reference.against, difference(_base(one), stack, reference, name or "(unnamed)", rounded=True)


def _base(one: Converted) -> GatewiseLayer:
    layer: Any = one.layer.layer if isinstance(one.layer, Reversed) else one.layer
    return layer  # type: ignore[no-any-return]


def names_in(to: str, name: str, stack: Stack) -> list[str]:
    """What the layers of a stack are called in a file."""
    if to == "keras":
        return keras_out.layer_names(name, stack)
    if to == "onnx":
        return onnx_out.node_names(name, stack)
    if to in ("torch", "gatewise") or stack.num_layers == 1:
        return [name]
    return [f"{name}.l{k}".lstrip(".") for k in range(stack.num_layers)]


def chain(layers: Sequence[Found]) -> Reference:
    """Several layers, each on what the one below gives, as one."""
    if len(layers) == 1:
        return layers[0].reference

    precisions = {layer.reference.precision for layer in layers}
    precision = torch.float32 if torch.float32 in precisions else torch.float64
    references = [layer.reference for layer in layers]
    exact = [one.also or one for one in references]
    also = None if precision == torch.float64 else Reference(exact[0].against, _through(layers, exact))
    return Reference(references[0].against, _through(layers, references), precision, also)


def _through(layers: Sequence[Found], references: Sequence[Reference]) -> Callable[[Problem], Results]:
    def run_all(given: Problem) -> Results:
        x, finals, first = given.x, [], 0
        for layer, reference in zip(layers, references, strict=True):
            count = len(layer.stack.directions)
            result = reference.run(Problem(x, tuple(s[first : first + count] for s in given.initial)))
            x, first = result.y, first + count
            finals.append(result.final)
        return Results(x, tuple(np.concatenate(own) for own in zip(*finals, strict=True)))

    return run_all


def _graph(path: Path, name: str, stack: Stack, nodes: Reference) -> Reference | None:
    """The whole graph of a stack in ONNX Runtime; None where that is not installed, or computes no float64."""
    try:
        runtime = need("onnxruntime", "formats")
    except InputError:
        return None
    if stack.dtype == torch.float64:
        return None
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    own = [i for i in session.get_inputs() if i.name.rpartition(".")[0] == name]

    def run_graph(given: Problem) -> Results:
        values = [given.x.swapaxes(0, 1), *given.initial]
        feeds = {i.name: v.astype(np.float32) for i, v in zip(own, values, strict=True)}
        others = {i.name: _zeros(i.shape) for i in session.get_inputs() if i.name not in feeds}
        outputs = [f"{name}.{o}" for o in ("y", "h_n", "c_n")[: 1 + len(given.initial)]]
        y, *finals = session.run(outputs, {**feeds, **others})
        return Results(y.swapaxes(0, 1), tuple(finals))

    return Reference(f"ONNX Runtime {runtime.__version__}", run_graph, torch.float32, nodes)


def _zeros(shape: Sequence[Any]) -> Any:
    """For the layers of a graph that are not asked for."""
    return np.zeros([s if isinstance(s, int) else 1 for s in shape], np.float32)


def _check_model(path: Path, layers: Mapping[str, Converted]) -> None:
    """Keras' own reading of the whole file, from zero states.

    Raises:
        InputError: when it differs from Gatewise's layers.
    """
    module = keras()
    if module.backend.backend() == "jax" and any(one.found.stack.dtype == torch.float64 for one in layers.values()):
        return  # its SimpleRNN runs in float32 alone there; each layer was checked by itself
    given = {name: from_zero(problem(one.found.stack)) for name, one in layers.items()}
    with doubles():
        model = module.saving.load_model(path)
        results = model([one.x for one in given.values()] if len(given) > 1 else next(iter(given.values())).x)
    results = results if isinstance(results, (list, tuple)) else [results]
    for (name, one), result in zip(layers.items(), results, strict=True):
        y = module.ops.convert_to_numpy(result)
        expected = run(to_layer(double(one.found.stack)), given[name]).y
        apart = float(np.abs(y - expected).max(initial=0.0)) if y.shape == expected.shape else float("inf")
        if not apart <= TOLERANCE[torch.float32] * max(1.0, float(np.abs(expected).max(initial=0.0))):
            raise InputError(f"layer {name}: the model that Keras reads differs from Gatewise by {apart:.1e}")
