"""Any torch module as an ONNX graph, through torch's exporter and the translations."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature

import torch
from torch import Tensor, nn

from gatewise.errors import InputError, need
from gatewise.formats.onnx.builder import OPSET
from gatewise.formats.onnx.exporting import serialised
from gatewise.formats.onnx.translation import translations

Shape = Sequence[int | str]


def written(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
) -> bytes:
    """The graph of a module in evaluation mode, as the content of a file.

    Args:
        example: arguments, whose free sizes are all different and at least 2. inputs: shapes by name, with names for
            sizes that are free. outputs: names.

    Raises:
        InputError: where torch cannot export the module, with its reason.
    """
    need("onnxscript", "onnx")
    free = {size: torch.export.Dim(size) for shape in inputs.values() for size in shape if isinstance(size, str)}
    each = [{k: free[n] for k, n in enumerate(shape) if isinstance(n, str)} for shape in inputs.values()]
    plain = [p for p in signature(module.forward).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    rest = each[len(plain) :]  # what goes into ``*arguments`` is one argument to torch
    shapes = (*each[: len(plain)], *([tuple(rest)] if rest else []))
    with torch.no_grad(), _quietly():
        try:
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                custom_translation_table=translations(),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise InputError(f"{type(module).__name__} cannot be exported: {_reason(error)}") from error
    assert program is not None
    _without_traces(program.model)
    return serialised(program.model)


def labelled(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """The same graph with something more said about it."""
    import onnx

    model = onnx.load_from_string(content)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    changed: bytes = model.SerializeToString()
    return changed


def _reason(error: Exception) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    return str(error).strip().split("\n")[0]


def _without_traces(model: object) -> None:
    """Without the paths of source files, which torch writes beside every node."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch's exporter says of its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
