"""A list of ONNX nodes that grows: operators by name, numbers and arrays as constants."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

OPSET = 18
"""Of every graph that is written: the first with all operators used here, and torch's own default."""
IR_VERSION = 8
"""The one that came with this opset; newer ones are refused by older runtimes."""

Value = Any
"""A value of the graph (``onnx_ir.Value``), or an array that is known already."""
Array = NDArray[Any]


class Builder:
    """Records nodes in order. What is computed from arrays alone (blocks of weights) is an array again.

    Args:
        dtype: of the numbers that equations mention. prefix: before the names of all values.
        around: the builder of the graph in whose node this one is a body: constants go there.
    """

    def __init__(self, dtype: np.dtype[Any], prefix: str = "", around: Builder | None = None) -> None:
        self.dtype, self.prefix, self.around = dtype, prefix, around
        self.nodes: list[ir.Node] = []
        self._numbers = count()
        self._known: dict[tuple[Any, ...], ir.Value] = {}

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """The output of a node, or a tuple of several."""
        attributes = {name: value for name, value in attributes.items() if value is not None}
        values = [None if value is None else self.value(value) for value in inputs]
        while values and values[-1] is None:
            values.pop()
        made = [ir.Value(name=self.name(kind)) for _ in range(outputs)]
        name = f"{made[0].name}_node"
        node = ir.Node("", kind, values, ir.convenience.convert_attributes(attributes), outputs=made, name=name)
        self.nodes.append(node)
        return made[0] if outputs == 1 else tuple(made)

    def name(self, kind: str) -> str:
        """A name that no other value has."""
        return f"{self.prefix}{kind}_{next(self._numbers)}"

    def value(self, value: Value) -> ir.Value:
        """A value of the graph; numbers become constants in the precision of the equations."""
        if isinstance(value, ir.Value):
            return value
        array = np.asarray(value, None if isinstance(value, np.ndarray) else self.dtype)
        return self._constant(array)

    def integers(self, *values: int) -> ir.Value:
        """An int64 vector: axes, shapes."""
        return self._constant(np.array(values, np.int64))

    def _constant(self, array: Array) -> ir.Value:
        if self.around is not None:
            return self.around._constant(array)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = self.op("Constant", value=ir.tensor(array))
        return self._known[key]

    # Of arrays, and of values

    def rows(self, value: Value, start: int, stop: int) -> Value:
        """value[start:stop]."""
        if isinstance(value, np.ndarray):
            return value[start:stop]
        return self.op("Slice", value, self.integers(start), self.integers(stop), self.integers(0))

    def concat(self, values: Sequence[Value], axis: int = 0) -> Value:
        if all(isinstance(value, np.ndarray) for value in values):
            return np.concatenate(values, axis)
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def transposed(self, matrix: Value) -> Value:
        return matrix.T if isinstance(matrix, np.ndarray) else self.op("Transpose", matrix, perm=[1, 0])

    def negative(self, value: Value) -> Value:
        return -value if isinstance(value, np.ndarray) else self.op("Neg", value)

    def flat(self, value: Value) -> Value:
        return value.reshape(-1) if isinstance(value, np.ndarray) else self.op("Reshape", value, self.integers(-1))

    def stacked(self, values: Sequence[Value]) -> Value:
        """Along a new first axis."""
        if all(isinstance(value, np.ndarray) for value in values):
            return np.stack(values)
        return self.concat([self.op("Unsqueeze", value, self.integers(0)) for value in values])


def typed(name: str, dtype: Any, shape: Sequence[int | str | None]) -> ir.Value:
    """A value that a graph takes or gives."""
    kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
    return ir.Value(name=name, shape=ir.Shape(shape), type=kind)


def graph(inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], nodes: Sequence[ir.Node], name: str) -> ir.Graph:
    return ir.Graph(inputs, outputs, nodes=nodes, name=name, opset_imports={"": OPSET})
