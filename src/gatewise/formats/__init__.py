"""Weights and models of other frameworks, in and out: nothing is returned or written before it was run and compared.

>>> layer = gw.formats.layer("model.safetensors", "encoder.rnn")       # a checked layer of Gatewise's
>>> report = gw.formats.convert("model.keras", "torch", "model.pt")    # from one format into another
>>> gw.formats.layer(keras_layer)                                      # a live layer of Keras, Flax, Equinox or torch
>>> gw.formats.to_keras(layer)                                         # and back
>>> gw.formats.onnx.export(layer, "layer.onnx")                        # a graph for ONNX Runtime
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from gatewise.errors import InputError
    from gatewise.formats import onnx
    from gatewise.formats.arrays import from_arrays, to_arrays
    from gatewise.formats.converting import Report, Row, convert, layer, layers
    from gatewise.formats.found import Converted, Found, Left
    from gatewise.formats.layouts import LAYOUTS
    from gatewise.formats.modules import to_equinox, to_flax, to_keras, to_onnx, to_torch
    from gatewise.formats.onnx_in import OnnxNode, onnx_modules
    from gatewise.formats.reverse import Reversed
    from gatewise.formats.sources import find
else:
    _PLACES = {"InputError": "gatewise.errors"}
    for _place, _names in {
        "arrays": ("from_arrays", "to_arrays"),
        "converting": ("Report", "Row", "convert", "layer", "layers"),
        "found": ("Converted", "Found", "Left"),
        "layouts": ("LAYOUTS",),
        "modules": ("to_equinox", "to_flax", "to_keras", "to_onnx", "to_torch"),
        "onnx_in": ("OnnxNode", "onnx_modules"),
        "reverse": ("Reversed",),
        "sources": ("find",),
    }.items():
        _PLACES |= dict.fromkeys(_names, f"gatewise.formats.{_place}")

    def __getattr__(name: str) -> object:
        """Imported when asked for: ``import gatewise`` needs none of it."""
        if name == "onnx":
            return importlib.import_module("gatewise.formats.onnx")
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_PLACES[name]), name)


__all__ = [
    "LAYOUTS",
    "Converted",
    "Found",
    "InputError",
    "Left",
    "OnnxNode",
    "Report",
    "Reversed",
    "Row",
    "convert",
    "find",
    "from_arrays",
    "layer",
    "layers",
    "onnx",
    "onnx_modules",
    "to_arrays",
    "to_equinox",
    "to_flax",
    "to_keras",
    "to_onnx",
    "to_torch",
]
