"""What can be read: files by their suffix, directories of Gatewise's models, live modules, trees of arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gatewise.errors import InputError
from gatewise.formats import flat, keras, live, onnx_in, state_dicts, trees
from gatewise.formats.flat import METADATA, Flat
from gatewise.formats.formulas import Activation, Activations, cell_of
from gatewise.formats.found import Here
from gatewise.formats.state_dicts import Nonlinearity

NONLINEARITIES = ("tanh", "relu")


def find(source: Any, *, variables: Any = None, nonlinearity: Nonlinearity = None) -> Here:
    """The recurrent layers in a source.

    Args:
        source: the path of a file (torch: ``.pt``, ``.pth``, ``.bin``, ``.ckpt``; ``.safetensors``, ``.npz``,
            ``.msgpack``; Keras: ``.keras``, ``.weights.h5``; ``.onnx``) or of the directory of a model of Gatewise's; a
            live module of torch, Gatewise, Keras, Flax or Equinox; an ONNX ``ModelProto``; a state_dict or a tree of
            arrays by name.
        variables: of a linen module. nonlinearity: of ``torch.nn.RNN`` in files, whose weights do not say it: tanh or
            relu; where it is None, tanh is taken, and ``layer`` warns of it.

    Raises:
        InputError: when it cannot be read, is damaged or holds no recurrent layer.
    """
    _check_nonlinearity(nonlinearity)
    try:
        here = _in_file(Path(source), nonlinearity) if isinstance(source, (str, Path)) else _live(source, variables)
    except RecursionError:
        raise InputError("source is nested too deep, or holds itself") from None
    if not here:
        shown = str(source) if isinstance(source, (str, Path)) else f"this {type(source).__name__}"
        raise InputError(f"{shown} holds no recurrent layer that Gatewise knows by its names")
    return here


def _check_nonlinearity(given: Nonlinearity) -> None:
    for one in given.values() if isinstance(given, Mapping) else [given]:
        if one is not None and one not in NONLINEARITIES:
            raise InputError(f"nonlinearity must be {' or '.join(NONLINEARITIES)}, got {one!r}")


def _in_file(path: Path, nonlinearity: Nonlinearity) -> Here:
    if not str(path) or str(path) == ".":
        raise InputError("source must be the name of a file, got ''")
    if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        path = path / "model.safetensors"
        if not path.is_file():
            raise InputError(f"{path.parent} is no directory of a model: {path.name} is missing")
    reader = next((read for suffix, read in READERS.items() if path.name.lower().endswith(suffix)), None)
    if reader is not None:
        return reader(path)
    if path.suffix.lower() not in flat.SUFFIXES:
        flat.check_file(path)
        known = ", ".join([*READERS, *flat.SUFFIXES])
        raise InputError(f"{path} must end in one of {known}")
    return in_flat(flat.read_flat(path), nonlinearity)


READERS: dict[str, Callable[[Path], Here]] = {".keras": keras.find, ".h5": keras.find, ".onnx": onnx_in.find}


def in_flat(content: Flat, nonlinearity: Nonlinearity = None) -> Here:
    """The layers in tensors by name; what a file says of itself comes before ``nonlinearity``."""
    tensors, notes = content
    said = _said(notes.get(METADATA, ""))
    plain = {name: used[0].name for name, used in said.items() if len(used) == 1 and used[0].name in NONLINEARITIES}
    return [*state_dicts.find(tensors, plain or nonlinearity), *trees.find(tensors, said)]


def _said(text: str) -> dict[str, Activations]:
    """The activations of the layers in a file that Gatewise wrote; their cells are made."""
    if not text:
        return {}
    found: dict[str, Activations] = {}
    try:
        for name, (formula, activations) in json.loads(text).items():
            used = tuple(Activation(str(one), tuple(float(n) for n in numbers)) for one, numbers in activations)
            cell_of(formula, used)
            found[name] = used
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise InputError("what the file says of its layers is damaged") from None
    return found


def _live(source: Any, variables: Any) -> Here:
    packages = {kind.__module__.partition(".")[0] for kind in type(source).__mro__}
    if "keras" in packages:  # before torch, whose modules they are too where it is Keras' backend
        return keras.live(source)
    if isinstance(source, nn.Module):
        return live.of_module(source)
    if packages & {"flax", "equinox"}:
        return live.of_jax(source, variables)
    if "onnx" in packages or type(source).__name__ == "ModelProto":
        return onnx_in.find(source)
    if isinstance(source, Mapping):
        return in_flat((flat.flattened(source), {}))
    raise InputError(
        "source must be a path, a module of torch, Keras, Flax or Equinox, an ONNX model or a dictionary of arrays, "
        f"got {type(source).__name__}"
    )
