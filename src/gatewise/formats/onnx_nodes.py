"""ONNX's recurrent nodes as they stand in a graph: attributes, activations, constant weights.

An attribute that Gatewise does not compute is an error that names it: nothing is left out in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InputError, UnsupportedError, need
from gatewise.formats.flat import check_file
from gatewise.formats.formulas import Activation, Activations
from gatewise.formats.found import Left

OPERATORS = {"GRU": 3, "LSTM": 4, "RNN": 1}
"""With the number of their gates."""
OTHERS = ("AttnLSTM", "DynamicQuantizeLSTM")
"""Recurrent operators that are not ONNX's own."""
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
KNOWN = {"activations", "activation_alpha", "activation_beta", "direction", "hidden_size", "layout"}
OWN = {"GRU": {"linear_before_reset"}, "LSTM": {"input_forget"}, "RNN": set[str]()}
DIRECTIONS = ("forward", "reverse", "bidirectional")
# Gatewise's name, ONNX's, and the numbers that stand for absent ones. None: the standard refers to the operator of that
# name, and ONNX Runtime 1.32 computes with 0 instead, so that nobody can know what was meant.
ACTIVATIONS: dict[str, tuple[str, str, tuple[float | None, ...]]] = {
    "sigmoid": ("sigmoid", "Sigmoid", ()),
    "tanh": ("tanh", "Tanh", ()),
    "relu": ("relu", "Relu", ()),
    "softplus": ("softplus", "Softplus", ()),
    "softsign": ("softsign", "Softsign", ()),
    "hardsigmoid": ("hard_sigmoid", "HardSigmoid", (0.2, 0.5)),
    "affine": ("affine", "Affine", (None, 0.0)),
    "leakyrelu": ("leaky_relu", "LeakyRelu", (0.01,)),
    "thresholdedrelu": ("thresholded_relu", "ThresholdedRelu", (None,)),
    "scaledtanh": ("scaled_tanh", "ScaledTanh", (None, None)),
    "elu": ("elu", "Elu", (1.0,)),
}
"""By ONNX's names, which ONNX Runtime reads in any case."""
Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Node:
    """A recurrent node.

    Args:
        name: of the node, or of its first output where it has none. op: GRU, LSTM or RNN. proto: as it stands in the
            file. weights: W, R, B, P and initial states that are constants. inputs: which of ``INPUTS`` are given.
    """

    name: str
    op: str
    proto: Any
    attributes: dict[str, Any]
    weights: Weights
    inputs: frozenset[str]

    @property
    def direction(self) -> str:
        return str(self.attributes.get("direction", "forward"))

    @property
    def layout(self) -> int:
        return int(self.attributes.get("layout", 0))

    @property
    def per_layer(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    @property
    def table_name(self) -> str:
        """The name of its layout in ``layouts``."""
        if self.op == "GRU":
            return "onnx GRU linear_before_reset=1" if self.attributes.get("linear_before_reset", 0) else "onnx GRU"
        if self.op == "RNN":
            return "onnx RNN"
        coupled = " input_forget=1" if self.attributes.get("input_forget", 0) else ""
        return f"onnx LSTM{' P' if 'P' in self.weights else ''}{coupled}"


def load(source: Any) -> Any:
    """A model from a file, or a ``ModelProto`` as it is.

    Raises:
        InputError: when it is none, or its weights lie outside its folder.
    """
    onnx = need("onnx", "formats")
    if isinstance(source, onnx.ModelProto):
        return source
    path = Path(source)
    check_file(path)
    try:
        model = onnx.load(path)
    except (onnx.checker.ValidationError, OSError):
        raise InputError(_unread(path, onnx)) from None
    except Exception:  # protobuf's errors have no common base
        raise InputError(f"{path} is damaged or no ONNX file") from None
    if not model.ir_version or not model.graph.node:
        raise InputError(f"{path} is damaged or no ONNX file: it has no graph")
    return model


def _unread(path: Path, onnx: Any) -> str:
    """Why the files that hold a model's weights cannot be read."""
    graph = onnx.load(path, load_external_data=False).graph
    named = [e.value for tensor in graph.initializer for e in tensor.external_data if e.key == "location"]
    for name in named:
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            return f"{path} keeps weights in {name!r}, which lies outside its folder and is not read"
        if not (path.parent / name).exists():
            return f"{path} keeps weights in {name!r}, which is missing"
    return f"{path} keeps weights in {', '.join(sorted(set(named)))}, which cannot be read"


def nodes(model: Any) -> Iterator[Node | Left]:
    """The recurrent nodes of a model, those in the bodies of its loops and branches too.

    Raises:
        InputError: when the shapes of a node's weights contradict its attributes.
    """
    yield from _nodes(model.graph, [])


def _nodes(graph: Any, outer: list[Any]) -> Iterator[Node | Left]:
    onnx = need("onnx", "formats")
    graphs = [*outer, graph]
    for proto in graph.node:
        if proto.op_type in OPERATORS and proto.domain in ("", "ai.onnx"):
            try:
                yield _node(proto, Constants(graphs))
            except UnsupportedError as error:
                yield Left(_called(proto), str(error))
        elif proto.op_type in OTHERS:
            yield Left(_called(proto), f"node {_called(proto)} is a {proto.op_type}, expected GRU, LSTM or RNN")
        for attribute in proto.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g, graphs)


def _called(proto: Any) -> str:
    return str(proto.name or next(iter(filter(None, proto.output)), proto.op_type))


def _node(proto: Any, constants: Constants) -> Node:
    onnx = need("onnx", "formats")
    name = _called(proto)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    attributes = {n: _text(v) for n, v in attributes.items()}
    _check_attributes(name, proto.op_type, attributes)
    order = [i for i in INPUTS if proto.op_type == "LSTM" or i not in ("initial_c", "P")]
    given = {role: place for role, place in zip(order, proto.input, strict=False) if place}
    weights = {}
    for role in ("W", "R", "B", "P", "initial_h", "initial_c"):
        value = constants.value(given[role]) if role in given else None
        if value is not None:
            weights[role] = value
        elif (role in given and not role.startswith("initial")) or role in ("W", "R"):
            raise UnsupportedError(
                f"node {name}: {role} must be a constant of the graph, but it is an input or computed"
            )
    node = Node(name, proto.op_type, proto, attributes, weights, frozenset(given))
    _check_shapes(node)
    return node


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [_text(v) for v in value] if isinstance(value, (list, tuple)) else value


def _check_attributes(name: str, op: str, attributes: dict[str, Any]) -> None:
    for attribute, value in attributes.items():
        if attribute not in KNOWN | OWN[op]:
            raise UnsupportedError(
                f"node {name}: the attribute {attribute} of {op} is {value!r}, which Gatewise does not have"
            )
    if attributes.get("direction", "forward") not in DIRECTIONS:
        raise InputError(
            f"node {name}: direction must be one of {', '.join(DIRECTIONS)}, got {attributes['direction']!r}"
        )
    for attribute in ("layout", "linear_before_reset", "input_forget"):
        if attributes.get(attribute, 0) not in (0, 1):
            raise InputError(f"node {name}: {attribute} must be 0 or 1, got {attributes[attribute]!r}")


def _check_shapes(node: Node) -> None:
    """Each weight has the number of directions and gates that the attributes say."""
    gates, count = OPERATORS[node.op], node.per_layer
    units = int(node.attributes.get("hidden_size", 0)) or int(node.weights["R"].shape[-1])
    rows = gates * units
    expected = {"W": (count, rows, None), "R": (count, rows, units), "B": (count, 2 * rows), "P": (count, 3 * units)}
    for role, shape in expected.items():
        value = node.weights.get(role)
        fits = value is None or (
            value.ndim == len(shape) and all(s in (None, v) for s, v in zip(shape, value.shape, strict=True))
        )
        if value is not None and not fits:
            shown = tuple("input_size" if s is None else s for s in shape)
            raise InputError(f"node {node.name}: {role} must have shape {shown}, got {value.shape}")
    for role in ("initial_h", "initial_c"):
        value = node.weights.get(role)
        if value is not None and (
            value.ndim != 3 or value.shape[2] != units or value.shape[1 if node.layout else 0] != count
        ):
            raise InputError(f"node {node.name}: {role} must have {count} directions of {units}, got {value.shape}")


def activations(node: Node) -> Activations:
    """What the node says of activations, the same for both directions.

    Raises:
        InputError: for one that Gatewise has not, and where the directions differ.
    """
    usual = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "RNN": ["Tanh"]}[node.op]
    names = list(node.attributes.get("activations") or usual * node.per_layer)
    if len(names) != len(usual) * node.per_layer:
        raise InputError(
            f"node {node.name}: activations must name {len(usual) * node.per_layer} functions, got {', '.join(names)}"
        )
    numbers = [list(node.attributes.get(f"activation_{which}") or []) for which in ("alpha", "beta")]
    found = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            known = ", ".join(onnx_name for _, onnx_name, _ in ACTIVATIONS.values())
            raise UnsupportedError(f"node {node.name}: activations must be of {known}, got {name!r}")
        found.append(_activation(node.name, name, numbers))
    first, second = found[: len(usual)], found[len(usual) :]
    if second and first != second:
        raise UnsupportedError(
            f"node {node.name}: activations must be the same in both directions, got {', '.join(names)}"
        )
    return tuple(first)


def _activation(node: str, name: str, numbers: list[list[float]]) -> Activation:
    """One with its numbers, which are taken from the lists in turn."""
    own, known, defaults = ACTIVATIONS[name.lower()]
    given = []
    for k, default in enumerate(defaults):
        number = numbers[k].pop(0) if numbers[k] else default
        if number is None:
            which = ("activation_alpha", "activation_beta")[k]
            raise UnsupportedError(
                f"node {node}: {known} has no {which}, for which ONNX Runtime takes 0 and the operator {known} another "
                "number; write the number into the node"
            )
        given.append(float(number))
    return Activation(own, tuple(given))


class Constants:
    """The constants of a graph and those around it; what is computed of constants alone is one too."""

    def __init__(self, graphs: list[Any]) -> None:
        self.graphs = graphs

    def value(self, name: str) -> NDArray[Any] | None:
        """Its numbers; None where they depend on an input."""
        onnx = need("onnx", "formats")
        for graph in reversed(self.graphs):
            tensor = next((t for t in graph.initializer if t.name == name), None)
            if tensor is not None:
                return self._array(name, tensor)
            maker = next((n for n in graph.node if name in n.output), None)
            if maker is not None:
                return self._computed(onnx, maker, name)
        return None

    def _array(self, name: str, tensor: Any) -> NDArray[Any]:
        try:
            array: NDArray[Any] = need("onnx.numpy_helper", "formats").to_array(tensor)
        except Exception:  # a size that contradicts the data has many errors
            raise InputError(f"the weights {name} are damaged: their size contradicts their shape") from None
        return array.astype(np.float32) if array.dtype.kind not in "fiub" else array

    def _computed(self, onnx: Any, maker: Any, name: str) -> NDArray[Any] | None:
        inputs = {place: self.value(place) for place in maker.input if place}
        if any(value is None for value in inputs.values()) or any(a.HasField("g") for a in maker.attribute):
            return None
        typed = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in inputs.items()
            if v is not None
        ]
        result = onnx.helper.make_empty_tensor_value_info(name)
        graph = onnx.helper.make_graph([maker], "constant", typed, [result])
        try:
            evaluator = need("onnx.reference", "formats").ReferenceEvaluator
            (value,) = evaluator(onnx.helper.make_model(graph)).run(None, inputs)
        except Exception:  # an operator that onnx does not evaluate
            return None
        return np.asarray(value)
