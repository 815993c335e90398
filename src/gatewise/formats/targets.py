"""What can be written: for each format a file that holds layers by name, refused where that is not exact."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from gatewise.errors import InputError, need
from gatewise.formats import keras_out, onnx_out
from gatewise.formats.blocks import write
from gatewise.formats.flat import METADATA
from gatewise.formats.found import Converted
from gatewise.formats.jax_cells import name_of, nested
from gatewise.formats.layouts import LAYOUTS
from gatewise.formats.stack import TORCH, Stack, express, parts
from gatewise.formats.trees import BACKWARD, FORWARD

Tensors = dict[str, Tensor]
LAYERS = {"gru_reset_after": "GRU", "gru": "GRU", "lstm": "LSTM", "rnn": "RNN"}
FAMILIES = ("gru", "lstm", "rnn")
CELLS: dict[str, dict[str, str]] = {
    "flax": {"gru": "flax.nnx GRUCell", "lstm": "flax.nnx LSTMCell", "rnn": "flax.nnx SimpleCell"},
    "linen": {"gru": "flax.linen GRUCell", "lstm": "flax.linen LSTMCell", "rnn": "flax.linen SimpleCell"},
    "equinox": {"gru": "equinox GRUCell", "lstm": "equinox LSTMCell"},
}
"""The layout of a family of formulas in each framework of cells."""


@dataclass(frozen=True)
class Target:
    """A format that can be written. suffixes: of its files; the first where none is given. content: of a file with
    layers by name, for a suffix."""

    suffixes: tuple[str, ...]
    content: Callable[[Mapping[str, Converted], str], bytes]


def family_of(stack: Stack) -> str:
    return stack.formula.partition("_")[0]


def no_start(stack: Stack, whose: str) -> None:
    """Refuse what the weights of a format do not hold.

    Raises:
        InputError: for a learned initial state, or a layer that runs backwards alone.
    """
    if stack.initial is not None:
        raise InputError(f"{whose} keeps no initial state with its weights, and this layer has one that is not zero")
    if stack.reverse:
        raise InputError(f"{whose} has no layer that runs from the last step to the first alone")


def torch_state(stack: Stack) -> Tensors:
    """The state_dict of torch's layer.

    Raises:
        InputError: when torch has no layer of this formula.
    """
    formula = {"gru": "gru_reset_after", "lstm": "lstm", "rnn": "rnn"}[family_of(stack)]
    whose = f"torch.nn.{LAYERS[formula]}"
    no_start(stack, whose)
    made = express(stack, formula, whose)
    plain = made.formula == "rnn" and made.activations[0].name in ("tanh", "relu")
    if not made.usual_activations() and not plain:
        used = ", ".join(map(str, made.activations))
        raise InputError(f"{whose} computes with its usual activations alone, got {used}")
    layout = LAYOUTS[TORCH[formula] + (" proj_size" if made.proj_size else "")]
    state: Tensors = {}
    for k, blocks in enumerate(made.directions):
        layer, back = divmod(k, 2) if made.bidirectional else (k, 0)
        suffix = "" if made.step else f"_l{layer}{'_reverse' * back}"
        state |= {name + suffix: value for name, value in write(layout, blocks).items()}
    return state


def cell_arrays(stack: Stack, framework: str) -> Tensors:
    """The arrays of cells: those of a stack's layers as ``l0``, ``l1`` …, where there is more than one.

    Raises:
        InputError: when the framework has no cell of this formula.
    """
    family = family_of(stack)
    if family not in CELLS[framework]:
        raise InputError(f"Equinox has no cell of the formula {stack.formula}")
    layout = LAYOUTS[CELLS[framework][family]]
    no_start(stack, layout.name)
    made = express(stack, layout.formula, layout.name)
    if framework == "equinox" and not made.usual_activations():
        raise InputError(f"{layout.name} computes with its usual activations alone")
    for activation in made.activations:
        name_of(activation)
    arrays: Tensors = {}
    for k, part in enumerate(parts(made)):
        names = [FORWARD, BACKWARD] if part.bidirectional else [""]
        for name, blocks in zip(names, part.directions, strict=True):
            path = ".".join(filter(None, [f"l{k}" if made.num_layers > 1 else "", name]))
            arrays |= {f"{path}.{n}".lstrip("."): value for n, value in write(layout, blocks).items()}
    return arrays


def _joined(layers: Mapping[str, Converted], make: Callable[[Converted], Tensors]) -> Tensors:
    """The tensors of all layers under their names."""
    joined: Tensors = {}
    for name, one in layers.items():
        joined |= {f"{name}.{n}".lstrip("."): value.contiguous() for n, value in make(one).items()}
    return joined


def _notes(layers: Mapping[str, Converted]) -> str:
    """Formula and activations of each layer, which tensors do not say."""
    return json.dumps(
        {
            name: [one.found.stack.formula, [[a.name, list(a.numbers)] for a in one.found.stack.activations]]
            for name, one in layers.items()
        }
    )


def _flat(make: Callable[[Converted], Tensors]) -> Callable[[Mapping[str, Converted], str], bytes]:
    """A file of tensors by name, in the way of its suffix."""

    def content(layers: Mapping[str, Converted], suffix: str) -> bytes:
        return _FLAT[suffix](_joined(layers, make), _notes(layers))

    return content


def _safetensors(tensors: Tensors, notes: str) -> bytes:
    own = {name: value.clone() for name, value in tensors.items()}
    return bytes(safetensors.torch.save(own, {METADATA: notes}))


def _pt(tensors: Tensors, notes: str) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: value.clone() for name, value in tensors.items()}, buffer)
    return buffer.getvalue()


def _arrays(tensors: Tensors) -> dict[str, Any]:
    """As numpy's; bfloat16, which it has not, as float32."""
    return {n: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for n, v in tensors.items()}


def _npz(tensors: Tensors, notes: str) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {METADATA: np.array(notes), **_arrays(tensors)}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _msgpack(tensors: Tensors, notes: str) -> bytes:
    save = need("flax.serialization", "formats").msgpack_serialize
    return bytes(save({METADATA: notes, **nested(_arrays(tensors))}))


_FLAT: dict[str, Callable[[Tensors, str], bytes]] = {
    ".safetensors": _safetensors,
    ".pt": _pt,
    ".npz": _npz,
    ".msgpack": _msgpack,
}


def _gatewise_state(one: Converted) -> Tensors:
    if one.found.stack.reverse:
        raise InputError("Gatewise has no layer that runs from the last step to the first alone; use the live one")
    return {name: value.detach() for name, value in one.layer.state_dict().items()}


def _cells(framework: str) -> Callable[[Mapping[str, Converted], str], bytes]:
    return _flat(lambda one: cell_arrays(one.found.stack, framework))


TARGETS = {
    "torch": Target((".safetensors", ".pt"), _flat(lambda one: torch_state(one.found.stack))),
    "gatewise": Target((".safetensors", ".pt"), _flat(_gatewise_state)),
    "keras": Target((".keras", ".weights.h5"), keras_out.content),
    "flax": Target((".msgpack", ".safetensors", ".npz"), _cells("flax")),
    "linen": Target((".msgpack", ".safetensors", ".npz"), _cells("linen")),
    "equinox": Target((".npz", ".safetensors"), _cells("equinox")),
    "onnx": Target((".onnx",), onnx_out.content),
}
"""By the names of ``--to``."""
