"""What the tensors of a call must be, so that no kernel reads or writes beside them.

Shapes follow from the cell and a few sizes; they are checked when a program for these shapes and strides is built.
Dtype and memory are checked at every call: weights are exchanged by ``load_state_dict(assign=True)``, and FSDP frees
the memory of a tensor that keeps its shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from gatewise.compiler.cell import Cell, vector_name
from gatewise.compiler.expression import Width
from gatewise.compiler.plan import input_operands
from gatewise.torch_internals import without_memory

KERNEL_DTYPES = (torch.float32, torch.float64)
"""What kernels compute in; ``nn`` widens bfloat16 on the way in."""

Shape = tuple[int, ...]
Expected = tuple[str, Tensor, tuple[Shape, ...]]
"""What a tensor is in words, the tensor, and the shapes that it may have."""


def check_shapes(cell: Cell, expected: Iterable[Expected]) -> None:
    """Refuse a tensor of another shape.

    Raises:
        TypeError, RuntimeError: as torch.nn's modules do.
    """
    for what, tensor, shapes in expected:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{what} of cell {cell.name} must be a tensor, got {type(tensor).__name__}")
        if tuple(tensor.shape) not in shapes:
            wanted = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
            raise RuntimeError(f"{what} of cell {cell.name} must have shape {wanted}, got {tuple(tensor.shape)}")


def check_dtypes(cell: Cell, expected: Sequence[Expected]) -> None:
    """Refuse a tensor in a precision that no kernel computes in, or in another than the first.

    Raises:
        RuntimeError: as torch's operators do.
    """
    for what, tensor, _ in expected:
        if tensor.dtype not in KERNEL_DTYPES:
            raise RuntimeError(f"{what} of cell {cell.name} must be in float32 or float64, got {tensor.dtype}")
        if tensor.dtype != expected[0][1].dtype:
            raise RuntimeError(
                f"{what} of cell {cell.name} must have the dtype of the other tensors, {expected[0][1].dtype}, "
                f"got {tensor.dtype}"
            )


def operands(
    cell: Cell, given: Sequence[Tensor], inputs: Mapping[str, Tensor], states: Sequence[Tensor]
) -> list[Expected]:
    """Operands of affine maps, element-wise inputs (time first) and states.

    Raises:
        RuntimeError: for a tensor with another number of dimensions than these have.
    """
    first = states[0]
    _check_dimensions(cell, f"state {cell.states[0]}", first, 2)
    rows, units = first.shape
    nodes = [node for _, node in input_operands(cell)]
    named = [(f"operand {k}", value, node.width) for k, (value, node) in enumerate(zip(given, nodes, strict=False))]
    named += [(f"input {name}", value, cell.leaf_widths[name]) for name, value in inputs.items()]
    # A cell that reads no input gets x for the number of steps alone.
    named += [("input x", value, "input") for value in given[len(nodes) :]]
    for what, value, _ in named:
        _check_dimensions(cell, what, value, 3)
    columns = {"hidden": units, "input": input_size(cell, given, inputs)}
    steps = named[0][1].shape[0]
    found: list[Expected] = [(what, value, ((steps, rows, _columns(width, columns)),)) for what, value, width in named]
    return found + [(f"state {name}", state, ((rows, units),)) for name, state in zip(cell.states, states, strict=True)]


def input_size(cell: Cell, given: Sequence[Tensor], inputs: Mapping[str, Tensor]) -> int:
    """The width of x, from whatever has it; 1 where nothing does."""
    nodes = [node for _, node in input_operands(cell)]
    wide = [value for value, node in zip(given, nodes, strict=False) if node.width == "input"]
    wide += [value for name, value in inputs.items() if cell.leaf_widths[name] == "input"]
    return int((wide or given)[0].shape[-1]) if wide or len(given) > len(nodes) else 1


def parameters(cell: Cell, given: Mapping[str, Tensor], columns: int, units: int) -> list[Expected]:
    """Weights and biases, biases being optional. ``bias_hh`` may, as in torch, have a block for every gate.

    Raises:
        RuntimeError: for a parameter that is missing or that the cell does not have.
    """
    if columns == 0 or units == 0:
        raise RuntimeError(f"kernels compute no width of zero, got input_size {columns} and hidden_size {units}")
    shapes: dict[str, tuple[Shape, ...]] = {n: (s,) for n, s in cell.parameter_shapes(columns, units).items()}
    redundant = (len(cell.rows("weight_hh")) * units,)
    shapes["bias_hh"] = (*shapes.get("bias_hh", ()), redundant)
    vectors = {vector_name(name) for name, _ in cell.vectors}
    needed = {name for name in shapes if not name.startswith("bias")} - vectors
    for name in [*(needed - given.keys()), *(given.keys() - shapes.keys())]:
        problem = "is missing" if name in needed else "is not one of its parameters"
        raise RuntimeError(f"parameter {name} of cell {cell.name} {problem}; it has {', '.join(shapes)}")
    return [(f"parameter {name}", value, shapes[name]) for name, value in given.items()]


def check(
    cell: Cell, x: Tensor, inputs: Mapping[str, Tensor], states: Sequence[Tensor], parameters_: Mapping[str, Tensor]
) -> None:
    """Refuse tensors that do not fit the cell and each other, before any operation of torch broadcasts them.

    Raises:
        TypeError, RuntimeError: for what is no tensor, or has another shape, dtype or device, as torch.nn's modules do.
    """
    check_together((x, *inputs.values(), *states, *parameters_.values()))
    (steps, rows, columns), units = x.shape, int(states[0].shape[-1])
    widths = {"input": columns, "hidden": units}
    expected: list[Expected] = [
        (f"input {name}", value, ((steps, rows, _columns(cell.input_widths[name], widths)),))
        for name, value in inputs.items()
    ]
    expected += [(f"state {name}", state, ((rows, units),)) for name, state in zip(cell.states, states, strict=True)]
    expected += parameters(cell, parameters_, columns, units)
    check_shapes(cell, expected)
    for what, tensor, _ in [("x", x, ()), *expected]:
        if tensor.dtype != x.dtype:
            raise RuntimeError(f"{what} of cell {cell.name} must have the dtype of x, {x.dtype}, got {tensor.dtype}")
        if _in_memory(tensor):
            _check_storage(f"{what} of cell {cell.name}", tensor)


def check_memory(tensors: Sequence[Tensor], names: Sequence[str], dtype: torch.dtype) -> None:
    """Refuse tensors of another dtype or device, or whose memory is smaller than their shape says.

    Raises:
        RuntimeError: as torch's operators do.
    """
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.dtype != dtype:
            raise RuntimeError(f"{name} must have the dtype of the other tensors, {dtype}, got {tensor.dtype}")
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise RuntimeError(f"{name} must be a dense tensor on the CPU, got {tensor.layout} on {tensor.device}")
        _check_storage(name, tensor)


def _check_storage(name: str, tensor: Tensor) -> None:
    there = tensor.untyped_storage().nbytes() if tensor.data_ptr() else 0
    if extent(tensor) and there < tensor.storage_offset() * tensor.element_size() + extent(tensor):
        raise RuntimeError(
            f"{name} must have memory for shape {tuple(tensor.shape)}, got a storage of {there} bytes, which was freed "
            "or made smaller"
        )


def _in_memory(tensor: Tensor) -> bool:
    """Whether torch's own operators would read the tensor's numbers where it says that they are."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.is_cpu and tensor.layout == torch.strided
    return plain and not without_memory(tensor)


def check_together(tensors: Sequence[object]) -> None:
    """Refuse what is no tensor, and tensors on several devices: the dispatcher would choose one of these for all.

    Raises:
        TypeError, RuntimeError: as torch's operators do.
    """
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"weights, states and inputs must be tensors, got {type(tensor).__name__}")
    devices = {tensor.device for tensor in tensors if isinstance(tensor, Tensor)}
    if len(devices) > 1:
        raise RuntimeError(f"all tensors must be on one device, got {', '.join(sorted(map(str, devices)))}")


def extent(tensor: Tensor) -> int:
    """Bytes from a tensor's first number to the end of its last."""
    if 0 in tensor.shape:
        return 0
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def overlap(a: Tensor, b: Tensor) -> bool:
    """Whether the memory of two tensors overlaps, gaps between their numbers included."""
    first, second = a.data_ptr(), b.data_ptr()
    return first < second + extent(b) and second < first + extent(a)


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two numbers may lie in one place; certain for strides as slices, transpositions and expansions have."""
    reached = 0
    for stride, n in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride <= reached:
            return True
        reached += (n - 1) * stride
    return False


def _columns(width: Width, columns: Mapping[str, int]) -> int:
    return width if isinstance(width, int) else columns[width]


def _check_dimensions(cell: Cell, what: str, tensor: Tensor, count: int) -> None:
    if tensor.dim() != count:
        raise RuntimeError(f"{what} of cell {cell.name} must have {count} dimensions, got {tensor.dim()}")
