"""Keras 3: layers in ``.keras`` and ``.weights.h5`` files and live ones, in; models of Gatewise's layers, out.

Files are read here, by h5py: ``keras.saving.load_model`` makes every object that a file names. Of a ``.keras`` file the
configuration says what each layer computes; ``.weights.h5`` has none, so shapes decide and Keras' defaults are taken.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import InputError, UnsupportedError, need
from gatewise.formats.blocks import read
from gatewise.formats.compare import Problem, Reference, Results
from gatewise.formats.flat import as_tensor, check_archive, check_file
from gatewise.formats.formulas import Activation, Activations
from gatewise.formats.found import Found, Here, Left
from gatewise.formats.keras_config import Config, config_at, names_of
from gatewise.formats.layouts import LAYOUTS, Layout
from gatewise.formats.readings import reading
from gatewise.formats.stack import Stack

WEIGHTS = "model.weights.h5"
ARRAYS = ("kernel", "recurrent_kernel", "bias")
ACTIVATIONS = {name: Activation(name) for name in ("sigmoid", "tanh", "relu", "softplus", "softsign")}
ACTIVATIONS |= {"hard_sigmoid": Activation("hard_sigmoid", (1 / 6, 0.5)), "elu": Activation("elu", (1.0,))}
ACTIVATIONS |= {"leaky_relu": Activation("leaky_relu", (0.2,)), "linear": Activation("affine", (1.0, 0.0))}
"""By Keras' names."""
KINDS = {"GRU": 3, "LSTM": 4, "SimpleRNN": 1}
UNSAID = (
    "a .weights.h5 does not store activations: Keras' defaults are taken",
    "a .weights.h5 does not store go_backwards: False is taken",
)
Own = dict[str, Tensor]


def keras() -> ModuleType:
    """Keras, on torch where nothing else was chosen.

    Raises:
        InputError: when it is not installed.
    """
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    return need("keras", "formats")


def single_only(module: ModuleType) -> bool:
    """Whether this Keras makes float32 of float64: on JAX, unless ``jax_enable_x64`` is set."""
    return str(module.backend.backend()) == "jax" and not need("jax", "formats").config.jax_enable_x64


def doubles() -> AbstractContextManager[Any]:
    """In which Keras computes in float64 on every backend: a check in float32 would have to let a small bias pass."""
    return need("jax", "formats").enable_x64(True) if single_only(keras()) else nullcontext()


def find(path: Path) -> Here:
    """The recurrent layers of a ``.keras`` or ``.weights.h5`` file.

    Raises:
        InputError: when it cannot be read, or the shapes of a layer contradict each other.
    """
    check_file(path)
    config: Config | None = None
    content = path.read_bytes()
    if path.suffix.lower() == ".keras":
        check_archive(path)
        config, content = _opened(path)
    h5py = need("h5py", "formats")
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            arrays, names = _arrays(file, h5py), names_of(file, h5py)
    except (OSError, RuntimeError, KeyError, ValueError):
        raise InputError(f"{path} is damaged or no file of Keras 3") from None
    return _layers(arrays, names, config)


def _opened(path: Path) -> tuple[Config, bytes]:
    """The configuration and the weights in the archive, which is never unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            config, content = json.loads(archive.read("config.json")), archive.read(WEIGHTS)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RecursionError):
        raise InputError(f"{path} is damaged or no .keras file: it must hold config.json and {WEIGHTS}") from None
    except Exception as error:  # zlib.error, which has no base of its own
        raise InputError(f"{path} is damaged: {type(error).__name__}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} is damaged: its config.json is no object")
    return config, content


def _arrays(file: Any, h5py: ModuleType) -> dict[str, Own]:
    """The arrays of every recurrent cell, by the path of the cell; links to other files are not followed."""
    found: dict[str, Own] = {}

    def visit(name: str, item: Any) -> None:
        parent, _, place = name.rpartition("/vars/")
        cell = parent.endswith("/cell") or "/cell/cells/" in parent
        if isinstance(item, h5py.Dataset) and place in ("0", "1", "2") and cell:
            found.setdefault(parent, {})[ARRAYS[int(place)]] = as_tensor(item[()])

    file.visititems(visit)
    return found


def _layers(arrays: Mapping[str, Own], names: Mapping[str, str], config: Config | None) -> Here:
    here: Here = []
    done = set[str]()
    for cell in arrays:
        place = cell.removesuffix("/cell")
        outer, _, side = place.rpartition("/")
        both = side in ("forward_layer", "backward_layer")
        place = outer if both else place
        if place in done:
            continue
        done.add(place)
        name, own = names.get(place, place), config_at(config, place, names)
        try:
            if "/cells/" in cell:
                raise UnsupportedError("it stands inside StackedRNNCells; give each cell an RNN layer of its own")
            halves = [arrays.get(f"{place}/{which}/cell", {}) for which in ("forward_layer", "backward_layer")]
            here.append(_bidirectional(name, halves, own) if both else _single(name, arrays[cell], own))
        except UnsupportedError as error:
            here.append(Left(name, str(error)))
    return here


def live(layer: Any) -> Here:
    """The recurrent layers of a live layer or model of Keras.

    Raises:
        InputError: when it is none, or has no weights yet.
    """
    module = keras()
    if isinstance(layer, module.Model):
        return [found for inner in layer.layers if _holds(inner, module) for found in live(inner)]
    if not _holds(layer, module):
        raise InputError(f"layer must be a recurrent layer or a model of Keras, got {type(layer).__name__}")
    both = isinstance(layer, module.layers.Bidirectional)
    halves = [layer.forward_layer, layer.backward_layer] if both else [layer]
    try:
        for half in halves:
            _check_kind(half, module)
        weights = [_weights(half) for half in halves]
        return [
            _bidirectional(layer.name, weights, _config(layer))
            if both
            else _single(layer.name, weights[0], _config(layer))
        ]
    except UnsupportedError as error:
        return [Left(layer.name, str(error))]


def _holds(layer: Any, module: ModuleType) -> bool:
    return isinstance(layer, (module.layers.Bidirectional, module.layers.RNN, module.Model))


def _check_kind(layer: Any, module: ModuleType) -> None:
    kinds = [getattr(module.layers, kind) for kind in KINDS]
    plain = type(layer) is module.layers.RNN and type(layer.cell).__name__.removesuffix("Cell") in KINDS
    if type(layer) not in kinds and not plain:
        raise UnsupportedError(f"layer {layer.name} is a {type(layer).__name__}, expected one of {', '.join(KINDS)}")


def _config(layer: Any) -> Config:
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def _weights(layer: Any) -> Own:
    if not layer.built:
        raise InputError(f"layer {layer.name} has no weights yet: call it once, or build it")
    module = keras()
    values = {n: getattr(layer.cell, n, None) for n in ARRAYS}
    return {n: as_tensor(module.ops.convert_to_numpy(v)) for n, v in values.items() if v is not None}


def _single(name: str, own: Own, config: Config | None) -> Found:
    kind, layout, activations, settings, notes = _meaning(name, own, config)
    stack = Stack(
        layout.formula, activations, (_read(name, layout, own, settings),), reverse=bool(settings.get("go_backwards"))
    )
    return Found(name, f"keras.layers.{kind}", stack, _reference(layout, [own], stack, kind), notes, notes)


def _bidirectional(name: str, pair: list[Own], config: Config | None) -> Found:
    inner = None if config is None else config["config"]
    mode = "concat" if inner is None else inner.get("merge_mode")
    if mode != "concat":
        raise UnsupportedError(f"layer {name}: merge_mode must be 'concat', which Gatewise's layers do, got {mode!r}")
    forward = None if inner is None else inner.get("layer")
    backward = None if inner is None else inner.get("backward_layer") or forward
    one, other = (_meaning(name, own, c) for own, c in zip(pair, (forward, backward), strict=True))
    if one[:3] != other[:3]:
        raise UnsupportedError(
            f"layer {name}: its two directions must have the same formula and activations, got {_said(one)} and "
            f"{_said(other)}"
        )
    kind, layout, activations, settings, notes = one
    if settings.get("go_backwards"):
        raise UnsupportedError(f"layer {name}: its first direction must run forwards, got go_backwards=True")
    directions = tuple(_read(name, layout, own, said) for own, said in zip(pair, (settings, other[3]), strict=True))
    stack = Stack(layout.formula, activations, directions, bidirectional=True)
    notes += () if inner is not None else ("a .weights.h5 does not store merge_mode: 'concat' is taken",)
    reference = _reference(layout, pair, stack, kind)
    return Found(name, f"keras.layers.Bidirectional({kind})", stack, reference, notes, notes)


def _read(name: str, layout: Layout, own: Own, settings: Mapping[str, Any]) -> Any:
    """The blocks of one direction.

    Raises:
        InputError: when shapes contradict each other, or the configuration.
    """
    try:
        blocks = read(layout, own)
    except InputError as error:
        raise InputError(f"layer {name}: {error}") from None
    units, biased = own["recurrent_kernel"].shape[0], "bias" in own
    for key, actual in (("units", units), ("use_bias", biased)):
        if settings.get(key, actual) != actual:
            raise InputError(f"layer {name}: its configuration has {key}={settings[key]}, its weights {key}={actual}")
    return blocks


Meaning = tuple[str, Layout, Activations, Mapping[str, Any], tuple[str, ...]]


def _meaning(name: str, own: Own, config: Config | None) -> Meaning:
    """Kind, layout, activations and settings of a layer, and what had to be taken for granted."""
    if config is None:
        kind, layout = _by_shape(name, own)
        return kind, layout, _activations(name, kind, {}), {}, UNSAID
    kind, settings = str(config.get("class_name")), config.get("config", {})
    if kind == "RNN":
        cell = settings.get("cell", {})
        back = settings.get("go_backwards", False)
        kind = str(cell.get("class_name")).removesuffix("Cell")
        settings = {**cell.get("config", {}), "go_backwards": back}
    if kind not in KINDS:
        raise UnsupportedError(f"layer {name} is a {kind}, expected one of {', '.join(KINDS)}")
    after = kind == "GRU" and not settings.get("reset_after", True)
    layout = LAYOUTS[f"keras {kind}" + (" reset_after=False" if after else "")]
    return kind, layout, _activations(name, kind, settings), settings, ()


def _said(meaning: Meaning) -> str:
    """Such as ``LSTM with sigmoid, relu, relu``."""
    _, layout, activations, *_ = meaning
    return f"{layout.layer} with {', '.join(map(str, activations))}"


def _by_shape(name: str, own: Own) -> tuple[str, Layout]:
    kernel, recurrent, bias = (own.get(n) for n in ARRAYS)
    if kernel is None or recurrent is None or recurrent.dim() != 2 or kernel.dim() != 2 or not recurrent.shape[0]:
        raise InputError(f"layer {name}: it has no kernel and recurrent_kernel of two dimensions")
    gates, rest = divmod(recurrent.shape[1], recurrent.shape[0])
    kind = next((k for k, n in KINDS.items() if n == gates and not rest), None)
    if kind is None:
        raise InputError(
            f"layer {name}: recurrent_kernel of shape {tuple(recurrent.shape)} belongs to no {', '.join(KINDS)}"
        )
    if kind == "GRU" and bias is None:
        raise InputError(f"layer {name}: a GRU without biases may have reset_after or not; convert the .keras file")
    before = kind == "GRU" and bias is not None and bias.dim() == 1
    return kind, LAYOUTS[f"keras {kind}" + (" reset_after=False" if before else "")]


def _activations(name: str, kind: str, settings: Mapping[str, Any]) -> Activations:
    g = _activation(name, settings.get("activation", "tanh"))
    if kind == "SimpleRNN":
        return (g,)
    f = _activation(name, settings.get("recurrent_activation", "sigmoid"))
    return (f, g) if kind == "GRU" else (f, g, g)


def _activation(name: str, stored: Any) -> Activation:
    called = stored.get("config") if isinstance(stored, dict) else stored
    if not isinstance(called, str) or called not in ACTIVATIONS:
        raise UnsupportedError(f"layer {name}: activation must be one of {', '.join(ACTIVATIONS)}, got {called!r}")
    return ACTIVATIONS[called]


def _reference(layout: Layout, pair: list[Own], stack: Stack, kind: str) -> Reference:
    """Keras' own layer, whose products are taken in float32 whatever its dtype, beside a reading of its formula."""
    arrays = [{n: v.double().numpy() for n, v in own.items()} for own in pair]
    exact = reading(layout.name, arrays, stack.activations, stack.bidirectional, stack.reverse)
    try:
        module = keras()
    except InputError:
        return exact
    with doubles():
        # On JAX its SimpleRNN cannot run in float64: the products are float32, and the scan wants one dtype.
        layer = empty(stack, kind, dtype="float32" if module.backend.backend() == "jax" else "float64")

    def run_keras(given: Problem) -> Results:
        with doubles():
            return _run(layer, pair, given, module)

    return Reference(f"keras {module.__version__}", run_keras, torch.float32, exact)


def empty(stack: Stack, kind: str, name: str = "layer", dtype: str = "float64", states: bool = True) -> Any:
    """A layer of Keras for one layer of a stack, without weights; states: it also returns its final ones."""
    module = keras()
    options: dict[str, Any] = {"units": stack.hidden_size, "use_bias": stack.bias, "return_sequences": True}
    options |= {"return_state": states, "activation": keras_name(stack.activations[-1]), "dtype": dtype}
    if kind != "SimpleRNN":
        options["recurrent_activation"] = keras_name(stack.activations[0])
    if kind == "GRU":
        options["reset_after"] = stack.formula == "gru_reset_after"
    layer = getattr(module.layers, kind)(**options, go_backwards=stack.reverse, name=name)
    wrapped = module.layers.Bidirectional
    return wrapped(layer, merge_mode="concat", name=name, dtype=dtype) if stack.bidirectional else layer


def keras_name(activation: Activation) -> str:
    """Keras' name of an activation.

    Raises:
        InputError: when it has none.
    """
    found = next((name for name, one in ACTIVATIONS.items() if one == activation), None)
    if found is None:
        raise InputError(f"Keras has no activation {activation}")
    return found


def _run(layer: Any, pair: list[Own], given: Problem, module: ModuleType) -> Results:
    if not layer.built:
        layer.build((None, None, given.x.shape[-1]))
    layer.set_weights([own[n].double().numpy() for own in pair for n in ARRAYS if n in own])
    # Each state of the first direction, then those of the second.
    states = [module.ops.convert_to_tensor(s[k]) for k in range(len(pair)) for s in given.initial]
    y, *finals = (module.ops.convert_to_numpy(v) for v in layer(given.x, initial_state=states))
    count = len(given.initial)
    ordered = [np.stack([finals[k * count + n] for k in range(len(pair))]) for n in range(count)]
    reverse = bool(getattr(layer, "go_backwards", False))
    return Results(y[:, ::-1] if reverse else y, tuple(ordered))
