"""Keras out: a model with a chain of layers for each layer of Gatewise's."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gatewise.errors import InputError, need
from gatewise.formats.blocks import write
from gatewise.formats.found import Converted
from gatewise.formats.keras import ARRAYS, doubles, empty, keras
from gatewise.formats.layouts import LAYOUTS
from gatewise.formats.stack import Stack, express, parts, widened

NAMES = {"gru_reset_after": "GRU", "gru": "GRU reset_after=False", "lstm": "LSTM", "rnn": "SimpleRNN"}
"""Keras' layers, by formula."""


def content(layers: Mapping[str, Converted], suffix: str) -> bytes:
    """A ``.keras`` or ``.weights.h5`` file."""
    stacks = {name: one.found.stack for name, one in layers.items()}
    if suffix != ".keras" and not all(stack.usual_activations() for stack in stacks.values()):
        raise InputError("a .weights.h5 stores no activations, and some of these are not Keras' defaults: write .keras")
    with doubles(), tempfile.TemporaryDirectory() as folder:
        made, path = model(stacks), Path(folder) / f"model{suffix}"
        made.save(path) if suffix == ".keras" else made.save_weights(path)
        return path.read_bytes()


def model(stacks: Mapping[str, Stack]) -> Any:
    """A model with an input and an output for each stack.

    Raises:
        InputError: when Keras has no layer of a formula.
    """
    module = keras()
    inputs, outputs = [], []
    for name, stack in stacks.items():
        x = module.Input((None, stack.input_size), name=f"{keras_name(name)}_input")
        inputs.append(x)
        for layer in layers(name, widened(stack)):
            x = layer(x)
        outputs.append(x)
    return module.Model(inputs if len(inputs) > 1 else inputs[0], outputs if len(outputs) > 1 else outputs[0])


def keras_name(name: str) -> str:
    """A name without what Keras does not allow in one."""
    return re.sub(r"\W+", "_", name) or "layer"


def layer_names(name: str, stack: Stack) -> list[str]:
    """What the layers of a stack are called."""
    own = keras_name(name)
    return [own] if stack.num_layers == 1 else [f"{own}_l{k}" for k in range(stack.num_layers)]


def layers(name: str, stack: Stack) -> list[Any]:
    """A layer of Keras for each layer of a stack, with its weights.

    Raises:
        InputError: when Keras has none of its formula.
    """
    wanted = stack.formula if stack.formula in NAMES else "lstm"
    kind, layout = NAMES[wanted].partition(" ")[0], LAYOUTS[f"keras {NAMES[wanted]}"]
    _check(stack, kind)
    made = express(stack, wanted, f"keras.layers.{kind}")
    result = []
    dtype = "float64" if made.dtype == torch.float64 else "float32"
    for own, part in zip(layer_names(name, stack), parts(made), strict=True):
        layer = empty(part, kind, own, dtype, states=False)
        layer.build((None, None, part.input_size))
        values = [write(layout, blocks) for blocks in part.directions]
        layer.set_weights([one[n].double().numpy() for one in values for n in ARRAYS if n in one])
        result.append(layer)
    return result


def _check(stack: Stack, kind: str) -> None:
    if stack.initial is not None:
        raise InputError(f"keras.layers.{kind} keeps no initial state with its weights, and this layer has one")
    if stack.reverse:
        raise InputError(f"keras.layers.{kind} with go_backwards gives the steps in the other order than this layer")
    if stack.proj_size:
        raise InputError(f"keras.layers.{kind} has no projection of the state")
    if len(stack.activations) == 3 and stack.activations[1] != stack.activations[2]:
        raise InputError("keras.layers.LSTM has one activation for the candidate and the output")
    need("h5py", "formats")
