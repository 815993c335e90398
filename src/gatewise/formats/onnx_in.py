"""ONNX in: GRU, LSTM and RNN nodes as Gatewise's layers, and as modules with the node's own inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.errors import InputError, UnsupportedError, need
from gatewise.formats.blocks import read
from gatewise.formats.compare import Problem, Reference, Results
from gatewise.formats.flat import as_tensor
from gatewise.formats.found import Found, Here, Left, converted
from gatewise.formats.layouts import LAYOUTS
from gatewise.formats.onnx_nodes import Node, activations, load, nodes
from gatewise.formats.readings import reading
from gatewise.formats.reverse import Reversed
from gatewise.formats.stack import Stack, check_turns, to_layer


def find(source: Any) -> Here:
    """The recurrent nodes of a file or a ``ModelProto``, each by itself.

    Raises:
        InputError: when it cannot be read, or the shapes of a node's weights contradict its attributes.
    """
    return [node if isinstance(node, Left) else _either(node) for node in nodes(load(source))]


def _either(node: Node) -> Found | Left:
    try:
        return _found(node)
    except UnsupportedError as error:
        return Left(node.name, str(error))


def _found(node: Node) -> Found:
    layout = LAYOUTS[node.table_name]
    stored = [_direction(node, k) for k in range(node.per_layer)]
    try:
        directions = tuple(read(layout, own) for own in stored)
    except InputError as error:
        raise InputError(f"node {node.name}: {error}") from None
    used = activations(node)
    if node.attributes.get("input_forget", 0):
        check_turns(used[0], f"node {node.name}: input_forget=1")
    stack = Stack(
        layout.formula,
        used,
        directions,
        bidirectional=node.per_layer == 2,
        reverse=node.direction == "reverse",
        batch_first=bool(node.layout),
        initial=_initial(node),
    )
    notes = [f"{role} is an input of the node" for role in ("initial_h", "initial_c") if role in _dynamic(node)]
    if "sequence_lens" in node.inputs:
        notes.append("sequence_lens are the layer's lengths")
    return Found(node.name, f"onnx {node.op}", stack, _reference(node, stack, stored), tuple(notes))


def _direction(node: Node, k: int) -> dict[str, Tensor]:
    return {role: as_tensor(node.weights[role][k]) for role in ("W", "R", "B", "P") if role in node.weights}


def _dynamic(node: Node) -> set[str]:
    """Initial states that come from outside the graph, or are computed in it."""
    return {r for r in ("initial_h", "initial_c") if r in node.inputs and r not in node.weights}


def _initial(node: Node) -> tuple[Tensor, ...] | None:
    """Constant initial states, (directions, hidden_size) each; None where they are zero or come from outside."""
    roles = ("initial_h", "initial_c") if node.op == "LSTM" else ("initial_h",)
    given = [node.weights.get(role) for role in roles]
    if all(value is None or not value.any() for value in given):
        return None
    rows = []
    for role, value in zip(roles, given, strict=True):
        if value is None:
            rows.append(torch.zeros(node.per_layer, node.weights["R"].shape[-1]))
            continue
        value = value if node.layout else value.swapaxes(0, 1)
        if not (value == value[:1]).all():
            raise InputError(f"node {node.name}: {role} is another constant for each row, which no layer keeps")
        rows.append(as_tensor(value[0]))
    return tuple(rows)


def _reference(node: Node, stack: Stack, stored: list[dict[str, Tensor]]) -> Reference:
    """ONNX Runtime on the node as it stands in the file, in float32, beside a reading of the formula."""
    arrays = [{n: v.double().numpy() for n, v in own.items()} for own in stored]
    exact = reading(node.table_name, arrays, stack.activations, stack.bidirectional, stack.reverse)
    try:
        runtime = need("onnxruntime", "formats")
    except InputError:
        return exact
    return Reference(f"ONNX Runtime {runtime.__version__}", lambda given: _run(node, given), torch.float32, exact)


def _run(node: Node, given: Problem) -> Results:
    onnx, runtime = need("onnx", "formats"), need("onnxruntime", "formats")
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    kept = [a for a in proto.attribute if a.name != "layout"]  # ONNX Runtime has only layout=0
    del proto.attribute[:], proto.input[:], proto.output[:]
    proto.attribute.extend(kept)
    states = ["initial_h", "initial_c"][: len(given.initial)]
    weights = {role: node.weights[role] for role in ("W", "R", "B", "P") if role in node.weights}
    order = ["X", "W", "R", "B", "", *states, *(["P"] if "P" in weights else [])]
    proto.input.extend([role if role in ("X", *weights, *states) else "" for role in order])
    proto.output.extend(["Y", "Y_h", "Y_c"][: 1 + len(states)])
    x = given.x.swapaxes(0, 1).astype(np.float32)
    feeds = {"X": x, **{role: s.astype(np.float32) for role, s in zip(states, given.initial, strict=True)}}
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [proto],
        "node",
        [onnx.helper.make_tensor_value_info(role, float32, value.shape) for role, value in feeds.items()],
        [onnx.helper.make_tensor_value_info(role, float32, None) for role in proto.output],
        [onnx.numpy_helper.from_array(v.astype(np.float32), role) for role, v in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, *finals = session.run(None, feeds)
    steps, count, rows, units = y.shape
    return Results(y.transpose(2, 0, 1, 3).reshape(rows, steps, count * units), tuple(finals))


class OnnxNode(nn.Module):
    """A recurrent node with its own inputs and outputs, computed by one of Gatewise's layers.

    Args:
        node: of a graph. found: what it was found to be.

    ``layer`` is the layer: a ``Recurrent``, or a ``Reversed`` one.
    """

    def __init__(self, node: Node, found: Found) -> None:
        super().__init__()
        layer: Any = to_layer(found.stack)
        layer.batch_first = bool(node.layout)
        self.layer: Any = Reversed(layer) if found.stack.reverse else layer
        self.count, self.batch_first = node.per_layer, bool(node.layout)
        for role in ("initial_h", "initial_c"):
            value = node.weights.get(role)
            self.register_buffer(role, None if value is None else as_tensor(value))

    def forward(
        self,
        X: Tensor,
        sequence_lens: Tensor | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Y, Y_h and, of an LSTM, Y_c.

        Args:
            X: (steps, rows, input_size), or (rows, steps, input_size) with layout=1. sequence_lens: (rows,) steps of
                each row. initial_h, initial_c: (directions, rows, hidden_size), with layout=1 rows first; the node's
                own constants, or zeros, where absent.

        Raises:
            TypeError, ValueError, RuntimeError: as the layer's call.
        """
        given: list[Any] = [initial_h if initial_h is not None else self.initial_h]
        given.append(initial_c if initial_c is not None else self.initial_c)
        y, final = self.layer(X, self._states(X, given), lengths=sequence_lens)
        finals = final if isinstance(final, tuple) else (final,)
        y = y.unflatten(-1, (self.count, -1))
        if self.batch_first:
            return y, *(f.transpose(0, 1) for f in finals)
        return y.transpose(1, 2), *finals

    def _states(self, x: Tensor, given: list[Any]) -> Any:
        """The layer's hx; None where all of it is zero."""
        layer = self.layer.layer if isinstance(self.layer, Reversed) else self.layer
        given = given[: len(layer.cell.states)]
        if all(value is None for value in given):
            return None
        rows = x.shape[0 if self.batch_first else 1]
        zeros = x.new_zeros(self.count, rows, layer.hidden_size)
        whole = [zeros if value is None else value.transpose(0, 1) if self.batch_first else value for value in given]
        return whole[0] if len(whole) == 1 else tuple(whole)


def onnx_modules(source: Any) -> dict[str, OnnxNode]:
    """The recurrent nodes of a file or a ``ModelProto`` as modules, by name.

    Raises:
        InputError: as ``find``; and when a node and the module differ.
    """
    made = {}
    for node in nodes(load(source)):
        if isinstance(node, Left):
            raise UnsupportedError(node.reason)
        found = _found(node)
        converted(found)
        made[node.name] = OnnxNode(node, found).eval()
    if not made:
        raise InputError(f"{source if isinstance(source, (str, Path)) else 'the model'} has no GRU, LSTM or RNN node")
    return made
