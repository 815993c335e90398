"""ONNX out by weights alone: a chain of GRU, LSTM or RNN nodes for each layer, its states as inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gatewise.errors import InputError, need
from gatewise.formats.blocks import write
from gatewise.formats.formulas import SIGMOID, TANH
from gatewise.formats.found import Converted
from gatewise.formats.layouts import LAYOUTS
from gatewise.formats.onnx_nodes import ACTIVATIONS
from gatewise.formats.stack import Stack, parts, widened

OPSET, IR_VERSION = 14, 8
NODES: dict[str, tuple[str, str, dict[str, int]]] = {
    "gru": ("GRU", "onnx GRU", {"linear_before_reset": 0}),
    "gru_reset_after": ("GRU", "onnx GRU linear_before_reset=1", {"linear_before_reset": 1}),
    "lstm": ("LSTM", "onnx LSTM", {}),
    "lstm_peephole": ("LSTM", "onnx LSTM P", {}),
    "lstm_coupled": ("LSTM", "onnx LSTM input_forget=1", {"input_forget": 1}),
    "lstm_coupled_peephole": ("LSTM", "onnx LSTM P input_forget=1", {"input_forget": 1}),
    "rnn": ("RNN", "onnx RNN", {}),
}
"""Operator, layout and attributes, by formula."""


def content(layers: Mapping[str, Converted], suffix: str) -> bytes:
    """An ``.onnx`` file."""
    return bytes(model({name: one.found.stack for name, one in layers.items()}).SerializeToString())


def model(stacks: Mapping[str, Stack]) -> Any:
    """A graph with, for each stack NAME: NAME.x (steps, rows, input_size) and NAME.h_0, of an LSTM NAME.c_0 too,
    (directions of all layers, rows, hidden_size) in; NAME.y, NAME.h_n and NAME.c_n out.

    Raises:
        InputError: when ONNX has no operator for a stack.
    """
    onnx = need("onnx", "formats")
    graph = onnx.GraphProto(name="gatewise")
    for name, stack in stacks.items():
        _Chain(onnx, graph, name or "layer", widened(stack)).add()
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="gatewise"
    )


def node_names(name: str, stack: Stack) -> list[str]:
    """What the nodes of a stack are called."""
    own = name or "layer"
    return [own] if stack.num_layers == 1 else [f"{own}.l{k}" for k in range(stack.num_layers)]


class _Chain:
    """The nodes of one stack."""

    def __init__(self, onnx: Any, graph: Any, name: str, stack: Stack) -> None:
        if stack.proj_size or stack.initial is not None:
            what = "projection of the state" if stack.proj_size else "initial state of its own"
            raise InputError(f"an ONNX {NODES[stack.formula][0]} node has no {what}")
        self.onnx, self.graph, self.name, self.stack = onnx, graph, name, stack
        self.states = ["h", "c"][: len(stack.state_sizes)]
        self.free = [f"{name}.steps", f"{name}.rows"]  # of one name are of one size in the whole graph
        self.type = onnx.TensorProto.DOUBLE if stack.dtype == torch.float64 else onnx.TensorProto.FLOAT

    def add(self) -> None:
        stack, name, per_layer = self.stack, self.name, 2 if self.stack.bidirectional else 1
        rows = len(stack.directions)
        x = self._value(self.graph.input, f"{name}.x", [*self.free, stack.input_size])
        for s in self.states:
            self._value(self.graph.input, f"{name}.{s}_0", [rows, self.free[1], stack.hidden_size])
        starts = {s: self._split(s, per_layer) for s in self.states}
        pieces = list(zip(node_names(name, stack), parts(stack), strict=True))
        finals: dict[str, list[str]] = {s: [] for s in self.states}
        for k, (node, part) in enumerate(pieces):
            x = self._node(node, part, x, [starts[s][k] for s in self.states], finals)
        self._node_of("Identity", [x], f"{name}.y")
        self._value(self.graph.output, f"{name}.y", [*self.free, per_layer * stack.hidden_size])
        for s in self.states:
            self._node_of("Concat", finals[s], f"{name}.{s}_n", axis=0)
            self._value(self.graph.output, f"{name}.{s}_n", [rows, self.free[1], stack.hidden_size])

    def _node(self, name: str, part: Stack, x: str, starts: list[str], finals: dict[str, list[str]]) -> str:
        """The recurrent node of one layer; its output as the input of the next."""
        op, table, attributes = NODES[part.formula]
        weights = [write(LAYOUTS[table], blocks) for blocks in part.directions]
        places = {role: f"{name}.{role}" for role in weights[0]}
        for role, place in places.items():
            array = torch.stack([own[role] for own in weights])
            self.graph.initializer.append(self.onnx.numpy_helper.from_array(array.numpy(), place))
        inputs = [x, places["W"], places["R"], places.get("B", ""), "", *starts]
        inputs += [places["P"]] if "P" in places else []
        outputs = [f"{name}.Y", *(f"{name}.Y_{s}" for s in self.states)]
        both = "bidirectional" if part.bidirectional else "reverse" if part.reverse else "forward"
        self.graph.node.append(
            self.onnx.helper.make_node(
                op, inputs, outputs, name, hidden_size=part.hidden_size, direction=both, **attributes, **named(part)
            )
        )
        for s, place in zip(self.states, outputs[1:], strict=True):
            finals[s].append(place)
        moved = self._node_of("Transpose", [outputs[0]], f"{name}.moved", perm=[0, 2, 1, 3])
        flat = self._constant(f"{name}.shape", [0, 0, -1])
        return self._node_of("Reshape", [moved, flat], f"{name}.y_flat")

    def _split(self, s: str, per_layer: int) -> list[str]:
        """The initial states of each layer."""
        count = self.stack.num_layers
        if count == 1:
            return [f"{self.name}.{s}_0"]
        places = [f"{self.name}.l{k}.{s}_0" for k in range(count)]
        sizes = self._constant(f"{self.name}.{s}_sizes", [per_layer] * count)
        self.graph.node.append(self.onnx.helper.make_node("Split", [f"{self.name}.{s}_0", sizes], places, axis=0))
        return places

    def _node_of(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.graph.node.append(self.onnx.helper.make_node(op, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, values: list[int]) -> str:
        array = torch.tensor(values, dtype=torch.int64).numpy()
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def _value(self, where: Any, name: str, shape: list[int | str]) -> str:
        where.append(self.onnx.helper.make_tensor_value_info(name, self.type, shape))
        return name


def named(part: Stack) -> dict[str, Any]:
    """The attributes of a node for its activations; none where they are the usual ones.

    Raises:
        InputError: for an activation that ONNX has not.
    """
    if part.activations in ((SIGMOID, TANH), (SIGMOID, TANH, TANH), (TANH,)):
        return {}
    known = {own: (name, len(numbers)) for own, name, numbers in ACTIVATIONS.values()}
    names, alpha, beta = [], list[float](), list[float]()
    for activation in part.activations * (2 if part.bidirectional else 1):
        names.append(known[activation.name][0])
        alpha += activation.numbers[:1]
        beta += activation.numbers[1:]
    numbers = {"activation_alpha": alpha, "activation_beta": beta}
    return {"activations": names, **{n: v for n, v in numbers.items() if v}}
