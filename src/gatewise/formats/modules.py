"""Live modules of other frameworks from Gatewise's layers, each run beside the layer before it is returned."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gatewise.errors import InputError, need
from gatewise.formats import keras_out
from gatewise.formats.compare import difference
from gatewise.formats.found import Converted, Found, Here
from gatewise.formats.jax_cells import equinox_cell, linen_cell, nested, nnx_cell
from gatewise.formats.keras import keras, single_only
from gatewise.formats.layouts import LAYOUTS
from gatewise.formats.live import of_gatewise
from gatewise.formats.sources import find
from gatewise.formats.stack import GatewiseLayer, Stack, double, express, parts, to_layer
from gatewise.formats.targets import CELLS, LAYERS, cell_arrays, family_of, torch_state
from gatewise.formats.written import chain, checked_content


def to_torch(layer: GatewiseLayer) -> nn.Module:
    """torch.nn's layer or cell with the weights of one of Gatewise's, in evaluation mode.

    Raises:
        InputError: when torch has none of its formula, or the two differ.
    """
    stack = of_gatewise("", layer).stack
    state = torch_state(stack)
    kind = LAYERS.get(stack.formula, "LSTM")
    options: dict[str, Any] = {"bias": any(n.startswith("bias") for n in state), "dtype": stack.dtype}
    if kind == "RNN":
        options["nonlinearity"] = stack.activations[0].name
    if not stack.step:
        options |= {"num_layers": stack.num_layers, "bidirectional": stack.bidirectional}
        options |= {"batch_first": stack.batch_first} | ({"proj_size": stack.proj_size} if stack.proj_size else {})
    made: nn.Module = getattr(nn, kind + "Cell" * stack.step)(stack.input_size, stack.hidden_size, **options)
    made.load_state_dict(state)
    _check(layer, stack, find(made))
    return made.eval()


def _check(layer: GatewiseLayer, stack: Stack, here: Here) -> None:
    """What was made is taken apart again as a stranger's, and run."""
    found = [one for one in here if isinstance(one, Found)]
    if len(found) != len(here) or not found:
        raise InputError(f"what was made of {type(layer).__name__} is not what was expected")
    difference(layer, stack, chain(found), type(layer).__name__, rounded=True)


def to_keras(layer: GatewiseLayer, name: str = "layer") -> Any:
    """A model of Keras: sequences in, the output of every step out.

    Raises:
        InputError: when Keras has no layer of the formula, is not installed, or the two differ.
    """
    stack = of_gatewise("", layer).stack
    if stack.dtype == torch.float64 and single_only(keras()):
        raise InputError("the layer is in float64, of which Keras on JAX makes float32 unless jax_enable_x64 is set")
    _exact(layer, "keras", ".keras")
    model = keras_out.model({name: stack})
    _check(layer, stack, find(model))
    return model


def _exact(layer: GatewiseLayer, to: str, suffix: str) -> None:
    """The same in float64 and as a file, where nothing differs but by rounding."""
    stack = double(of_gatewise("", layer).stack)
    found = of_gatewise("layer", to_layer(stack))
    checked_content(to, {"layer": Converted(found, to_layer(stack), 0.0)}, suffix)


def to_flax(layer: GatewiseLayer, kind: str = "nnx") -> Any:
    """Flax's cells around a layer's weights, for each layer of the stack an ``RNN`` or a ``Bidirectional``.

    Args:
        layer: of Gatewise's. kind: ``nnx`` for a list of modules, ``linen`` for a list of pairs of a module and its
            variables.

    Raises:
        InputError: when Flax has no cell of the formula or no place for a bias, is not installed, or the two differ.
    """
    if kind not in ("nnx", "linen"):
        raise InputError(f"kind must be nnx or linen, got {kind!r}")
    found = of_gatewise("", layer)
    to = "flax" if kind == "nnx" else "linen"
    _exact(layer, to, ".safetensors")
    layout = LAYOUTS[CELLS[to][family_of(found.stack)]]
    made = express(found.stack, layout.formula, layout.name)
    make = _nnx if kind == "nnx" else _linen
    modules = [make(layout.layer, part, to) for part in parts(made)]
    here = [one for own in modules for one in (find(own) if kind == "nnx" else find(own[0], variables=own[1]))]
    _check(layer, found.stack, here)
    return modules


def _dtype(stack: Stack) -> Any:
    """The dtype of a cell's arrays.

    Raises:
        InputError: when JAX would make float32 of float64.
    """
    double = stack.dtype == torch.float64
    if double and not need("jax", "formats").config.jax_enable_x64:
        raise InputError("the layer is in float64, of which JAX makes float32 unless jax_enable_x64 is set")
    numpy = need("jax.numpy", "formats")
    return numpy.float64 if double else numpy.float32


def _nnx(layer: str, part: Stack, to: str) -> Any:
    nnx = need("flax.nnx", "formats")
    cells = [nnx_cell(layer, arrays, part, _dtype(part)) for arrays in _sides(part, to)]
    runs = [nnx.RNN(cell) for cell in cells]
    return nnx.Bidirectional(*runs) if part.bidirectional else runs[0]


def _linen(layer: str, part: Stack, to: str) -> Any:
    linen, numpy = need("flax.linen", "formats"), need("jax.numpy", "formats")
    runs = [linen.RNN(linen_cell(layer, part, _dtype(part))) for _ in part.directions]
    trees = [nested({n: numpy.asarray(v) for n, v in arrays.items()}) for arrays in _sides(part, to)]
    if part.bidirectional:
        names = ("forward_rnn", "backward_rnn")
        tree: dict[str, Any] = {name: {"cell": own} for name, own in zip(names, trees, strict=True)}
        return linen.Bidirectional(*runs), {"params": tree}
    return runs[0], {"params": {"cell": trees[0]}}


def _sides(part: Stack, to: str) -> list[dict[str, Any]]:
    """The arrays of each direction."""
    found = []
    for blocks in part.directions:
        one = Stack(part.formula, part.activations, (blocks,))
        found.append({n: v.float().numpy() if v.itemsize < 4 else v.numpy() for n, v in cell_arrays(one, to).items()})
    return found


def to_equinox(layer: GatewiseLayer) -> list[Any]:
    """Equinox's cells with a layer's weights: for each layer of the stack and each direction one.

    Raises:
        InputError: when Equinox has no cell of the formula, is not installed, or the two differ.
    """
    found = of_gatewise("", layer)
    _exact(layer, "equinox", ".npz")
    layout = LAYOUTS[CELLS["equinox"][family_of(found.stack)]]
    made = express(found.stack, layout.formula, layout.name)
    cells = []
    for part in parts(made):
        cells += [equinox_cell(layout.layer, arrays, part, _dtype(part)) for arrays in _sides(part, "equinox")]
    for cell, blocks in zip(cells, found.stack.directions, strict=True):
        one = Stack(found.stack.formula, found.stack.activations, (blocks,))
        _check(to_layer(one), one, find(cell))
    return cells


def to_onnx(layer: GatewiseLayer, name: str = "layer") -> Any:
    """An ONNX ``ModelProto`` of GRU, LSTM or RNN nodes, with states as inputs and outputs.

    Raises:
        InputError: when ONNX has no operator of the formula, onnx is not installed, or the two differ.
    """
    found = of_gatewise(name, layer)
    content, _ = checked_content("onnx", {name: Converted(found, layer, 0.0)}, ".onnx")
    return need("onnx", "formats").load_model_from_string(content)
