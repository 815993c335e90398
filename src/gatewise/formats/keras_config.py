"""What a configuration of Keras says of the layer at a path in the weights of the same model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

Config = dict[str, Any]
"""A layer as Keras writes it: ``class_name`` and ``config``."""
_INNER = {"forward_layer": "layer", "layer": "layer", "cell": "cell"}
"""Under which name the configuration has what the weights call so."""


def names_of(file: Any, h5py: ModuleType) -> dict[str, str]:
    """What layers are called, by their path in the weights, with the names of the models around them before."""
    own: dict[str, str] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and path.endswith("/vars") and "name" in item.attrs:
            own[path.removesuffix("/vars")] = str(item.attrs["name"])

    file.visititems(visit)
    return own


def config_at(config: Config | None, path: str, names: Mapping[str, str]) -> Config | None:
    """The configuration of the layer at a path; None where there is none, as in a model that is a class of its own."""
    here, place = config, ""
    segments = path.split("/")
    for k, segment in enumerate(segments):
        place = f"{place}/{segment}" if place else segment
        if here is None:
            return None
        if segment == "layers":
            continue
        if k and segments[k - 1] == "layers":
            here = _child(here, segment, names.get(place))
        else:
            here = _dict(_dict(here.get("config")).get(_INNER.get(segment, segment))) or None
    return here


def _child(config: Config, segment: str, name: str | None) -> Config | None:
    """The layer of a model: by its name, and where the weights have none by the order of its class."""
    layers = [one for one in _dict(config.get("config")).get("layers", ()) if isinstance(one, dict)]
    if name is not None:
        return next((one for one in layers if _dict(one.get("config")).get("name") == name), None)
    used: dict[str, int] = {}
    for one in layers:
        base = snake(str(one.get("class_name")))
        used[base] = used.get(base, -1) + 1
        if segment == (f"{base}_{used[base]}" if used[base] else base):
            return one
    return None


def snake(name: str) -> str:
    """The name of a class as Keras writes it in paths: GRU, gru; SimpleRNN, simple_rnn."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
