"""ONNX out: layers and single steps as graphs of standard operators, and torch models that contain them.

>>> import gatewise as gw
>>> layer = gw.GRU(4, 16)
>>> gw.formats.onnx.export(layer, "gru.onnx")                                           # doctest: +SKIP
>>> torch.onnx.export(model, args, "model.onnx", dynamo=True,
...                   custom_translation_table=gw.formats.onnx.translations())          # doctest: +SKIP
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from gatewise.formats.onnx.builder import OPSET
    from gatewise.formats.onnx.check import Session, largest
    from gatewise.formats.onnx.exporting import Exported, export
    from gatewise.formats.onnx.modules import labelled, written
    from gatewise.formats.onnx.translation import translations
else:
    _PLACES = {"export": "exporting", "Exported": "exporting", "translations": "translation", "OPSET": "builder"}
    _PLACES |= {"Session": "check", "largest": "check", "written": "modules", "labelled": "modules"}

    def __getattr__(name: str) -> object:
        """Imported when asked for, since ``import gatewise`` needs neither onnx nor torch's exporter.

        Raises:
            InputError: where onnx or what reads it is not installed.
        """
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from gatewise.errors import need

        for module in ("onnx", "onnx_ir", "onnxruntime"):
            need(module, "onnx")
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


__all__ = ["OPSET", "Exported", "Session", "export", "labelled", "largest", "translations", "written"]
