"""``export``: a layer or a single step as an ONNX file, which appears once it was run and compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import gatewise
from gatewise.errors import InputError
from gatewise.formats.onnx import layer as layers
from gatewise.formats.onnx.builder import IR_VERSION, OPSET
from gatewise.formats.onnx.check import Session, largest
from gatewise.formats.onnx.layer import Options
from gatewise.formats.onnx.place import new_file
from gatewise.nn.layer import Layer
from gatewise.nn.single_step import SingleStep
from gatewise.writing import write_beside

SIZES = ((1, 1), (7, 3), (12, 2), (5, 17))
"""Steps and rows of the sequences that a layer is compared on."""
MOST_BYTES = 2000 << 20
"""Of weights: the format's limit is 2 GB, for a file and for what is read from memory."""
CHUNKS = (1, 4, 7)
"""Steps of the parts of a sequence whose state is carried."""
Pair = tuple[str, NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    inputs, outputs: shapes by name. operators: how often each occurs, in the bodies of others too. difference: the
    largest between ONNX Runtime and Gatewise, relative to the largest number of an output.
    """

    path: Path
    opset: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    operators: dict[str, int]
    difference: float

    def __str__(self) -> str:
        return (
            f"{self.path}: opset {self.opset}, {', '.join(self.inputs)} → {', '.join(self.outputs)}; "
            f"largest relative difference in ONNX Runtime {self.difference:.1e}"
        )


def export(
    module: nn.Module, path: str | Path, *, lengths: bool = False, reset: bool = False, force: bool = False
) -> Exported:
    """Write a layer or a single step as an ONNX graph of standard operators.

    The graph has the arguments and results of the module's call, with any batch and any number of steps. The states
    stand explicitly: ``h_0`` in and ``h_n`` out, ``c_0`` and ``c_n`` of an LSTM. Formulas that ONNX has become its
    ``GRU``, ``LSTM`` or ``RNN``; every other cell a ``Scan`` over operators of its equations.

    Args:
        module: a ``Recurrent`` (``GRU``, ``LSTM``, ``RNN``), or one of the cells ``GRUCell``, ``LSTMCell``,
            ``RNNCell``, in float32 or float64.
        path: of the file, which ends in ``.onnx``. force: write over a file that is there.
        lengths: the graph takes ``lengths``, int32 (batch,). reset: it takes ``reset``, bool, laid out as the input
            without its last axis. Both as in the layer's call.

    Returns:
        What was written, with the largest difference that was found.

    Raises:
        InputError: for a module or a path that cannot be exported, and where ONNX Runtime differs from Gatewise by
            more than 1e-5 of an output's largest number; then nothing is written.
    """
    graph = _graph(module, Options(lengths, reset))
    file = new_file(path, ".onnx", force)
    with quiet(module):
        model = ir.Model(graph, ir_version=IR_VERSION, producer_name="gatewise", producer_version=gatewise.__version__)
        lifted(model)
        session = Session(serialised(model))
        apart = largest(_pairs(module, session, Options(lengths, reset)), type(module).__name__)
    model.metadata_props.update(_metadata(module, apart))
    write_beside(file, serialised(model))
    return Exported(file, OPSET, _shapes(graph.inputs), _shapes(graph.outputs), operators(graph), apart)


def _graph(module: nn.Module, options: Options) -> ir.Graph:
    name = type(module).__name__
    if not isinstance(module, (Layer, SingleStep)):
        raise InputError(
            f"{name} is no recurrent layer of Gatewise; export a model around one with torch.onnx.export(model, args, "
            "path, dynamo=True, custom_translation_table=gatewise.formats.onnx.translations())"
        )
    if module.quantised is not None:
        raise InputError(f"{name}: got a quantised layer, whose products ONNX does not have; export it in float32")
    dtype = str(next(module.parameters(), torch.empty(0)).dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise InputError(f"{name}: dtype must be float32 or float64 to be exported, got {dtype}; see module.float()")
    if any(p.is_meta for p in module.parameters()):
        raise InputError(f"{name}: the weights must be in memory to be exported, but are on the meta device")
    if isinstance(module, SingleStep):
        if options != Options():
            raise InputError(f"{name}: lengths and reset belong to layers, and one step has neither")
        return layers.single_step(module)
    return layers.layer(module, options)


def lifted(model: ir.Model) -> None:
    """Constants stand among the weights, where tools show them."""
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def serialised(model: ir.Model) -> bytes:
    """The content of a file.

    Raises:
        InputError: for weights that one file cannot hold.
    """
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    if size > MOST_BYTES:
        raise InputError(f"the weights must be at most {MOST_BYTES >> 20} MB for one ONNX file, got {size >> 20} MB")
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def operators(graph: ir.Graph) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in graph.all_nodes():
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


@contextmanager
def quiet(module: nn.Module) -> Iterator[None]:
    """Without dropout and gradients."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


def _shapes(values: Iterable[ir.Value]) -> dict[str, tuple[int | str, ...]]:
    return {str(v.name): tuple(d if isinstance(d, int) else str(d) for d in v.shape or ()) for v in values}


def _metadata(module: Any, apart: float) -> dict[str, str]:
    found = {"gatewise": gatewise.__version__, "cell": module.cell.text, "difference": f"{apart:.2g}"}
    names = getattr(module, "_initial_names", ())
    if names:
        starts = torch.stack([getattr(module, name).detach() for name in names], 1).tolist()
        found["initial_states"] = json.dumps(dict(zip(module.cell.states, starts, strict=True)))
    return found


# What is compared


def _pairs(module: Any, session: Session, options: Options) -> Iterator[Pair]:
    generator = torch.Generator().manual_seed(0)
    if isinstance(module, SingleStep):
        for _, rows in SIZES:
            yield from _step_pairs(module, session, rows, generator)
        return
    for steps, rows in SIZES:
        problem = Problem(module, steps, rows, generator, options)
        yield from named(problem.expected(), session(problem.arrays()), f"{steps} steps of {rows} rows")
    if not module.bidirectional:
        problem = Problem(module, sum(CHUNKS), 3, generator, Options(reset=options.reset))
        yield from named(problem.expected(), _chunked(problem, session, options.lengths), "a sequence in parts")


def named(expected: dict[str, NDArray[Any]], found: dict[str, NDArray[Any]], where: str) -> Iterator[Pair]:
    return ((f"{name} of {where}", value, found[name]) for name, value in expected.items())


class Problem:
    """Random arguments of a layer: values by the names of the graph's inputs."""

    def __init__(self, module: Layer, steps: int, rows: int, generator: torch.Generator, options: Options) -> None:
        self.module, self.options, self.steps, self.rows = module, options, steps, rows
        lead = (rows, steps) if module.batch_first else (steps, rows)
        like = next(module.parameters(), torch.empty(0))

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=like.dtype).to(like.device)

        self.x = normal(*lead, module.input_size)
        count = module.num_layers * module.num_directions
        self.states = [normal(count, rows, width) for width in module.state_sizes]
        # Between 0 and 1, as masks, gaps and scores are: a cell may grow without bounds beyond.
        shapes = {name: (*lead, width) for name, width in layers.widths(module).items()}
        self.beside = {
            name: torch.rand(*shape, generator=generator, dtype=like.dtype).to(like.device)
            for name, shape in shapes.items()
        }
        self.more: dict[str, Tensor] = {}
        if options.lengths:
            ends = torch.randint(steps + 1, (rows,), generator=generator, dtype=torch.int32)
            ends[0], ends[-1] = 0, steps  # of a single row all steps count
            self.more["lengths"] = ends
        if options.reset:
            self.more["reset"] = (torch.rand(*lead, generator=generator) < 0.3).to(like.device)

    def arrays(self) -> dict[str, NDArray[Any]]:
        states = {f"{name}_0": s for name, s in zip(self.module.cell.states, self.states, strict=True)}
        every = {"input": self.x, **states, **self.beside, **self.more}
        return {name: layers.array(value) for name, value in every.items()}

    def expected(self) -> dict[str, NDArray[Any]]:
        hx = self.states[0] if len(self.states) == 1 else tuple(self.states)
        y, final = self.module(self.x, hx, **self.beside, **self.more)
        finals = final if isinstance(final, tuple) else (final,)
        named_finals = {f"{name}_n": f for name, f in zip(self.module.cell.states, finals, strict=True)}
        return {name: layers.array(value) for name, value in {"output": y, **named_finals}.items()}


def _chunked(problem: Problem, session: Session, lengths: bool) -> dict[str, NDArray[Any]]:
    """A sequence in parts, each from the states behind the one before."""
    axis = 1 if problem.module.batch_first else 0
    whole, outputs, start = problem.arrays(), [], 0
    names = problem.module.cell.states
    moving = ("input", *problem.beside, *problem.more)
    for steps in CHUNKS:
        part = {n: v.take(np.arange(start, start + steps), axis) if n in moving else v for n, v in whole.items()}
        if lengths:
            part["lengths"] = np.full(problem.rows, steps, np.int32)
        found = session(part)
        outputs.append(found["output"])
        whole |= {f"{name}_0": found[f"{name}_n"] for name in names}
        start += steps
    return {**found, "output": np.concatenate(outputs, axis)}


def _step_pairs(module: SingleStep, session: Session, rows: int, generator: torch.Generator) -> Iterator[Pair]:
    like = next(module.parameters(), torch.empty(0))
    sizes = [module.input_size, *[module.hidden_size] * len(module.cell.states)]
    x, *states = (torch.randn(rows, n, generator=generator, dtype=like.dtype).to(like.device) for n in sizes)
    new = module(x, states[0] if len(states) == 1 else tuple(states))
    new = new if isinstance(new, tuple) else (new,)
    names = module.cell.states
    given = {"input": x, **{f"{n}_0": s for n, s in zip(names, states, strict=True)}}
    arrays = {name: layers.array(value) for name, value in given.items()}
    expected = {f"{n}_n": layers.array(s) for n, s in zip(names, new, strict=True)}
    yield from named(expected, session(arrays), f"{rows} rows")
