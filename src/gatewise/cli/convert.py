"""``gatewise convert``: recurrent layers from one format into another, each run on both sides first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from gatewise.cli.arguments import file
from gatewise.cli.common import Json, Text
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps
from gatewise.tasks.verbs import print_table

OUTPUT = (
    "The file to be written. Its ending says how: torch and gatewise .safetensors or .pt; keras .keras or .weights.h5; "
    "flax and linen .msgpack, .safetensors or .npz; equinox .npz or .safetensors; onnx .onnx."
)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            parser=file,
            help="A .pt, .pth, .safetensors, .npz, .msgpack, .keras, .weights.h5 or .onnx file, or the directory of a "
            "model.",
        ),
    ],
    to: Annotated[
        Text,
        typer.Option("--to", help="torch, gatewise, keras, flax (nnx), linen, equinox or onnx.", show_default=False),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045 (typer evaluates it at run time)
        typer.Option("-o", "--output", metavar="OUT", parser=file, help=OUTPUT, show_default=False),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only show the recurrent layers in SOURCE.")] = False,
    layer: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--layer", metavar="NAME", help="Only this layer; may be given again.", show_default="all"),
    ] = None,
    nonlinearity: Annotated[
        str, typer.Option(help="Of torch.nn.RNN in a file, whose weights do not say it: tanh or relu.")
    ] = "tanh",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: Json = False,
) -> None:
    """Recurrent layers into another format: torch, Keras, Flax, Equinox, ONNX and back.

    Each layer is run beside the framework it came from and the one it goes to, on random input, before anything is
    written; the largest differences are printed.
    """
    names = tuple(layer or ())
    if list_:
        if to is not None or output is not None:
            raise InputError("--list writes nothing: leave --to and --output out")
        _show(source, names, nonlinearity, json)
        return
    if to is None or output is None:
        raise InputError("convert needs --to and -o, or --list to see what SOURCE holds")
    from gatewise.formats.converting import convert as run

    report = run(source, to, output, names, nonlinearity=nonlinearity, force=force)
    if json:
        rows = [dataclasses.asdict(row) for row in report.rows]
        print(dumps({"output": str(report.output), "to": to, "layers": rows}), end="")
        return
    head = ["layer", "was", "formula", "run beside", "difference", "written, run beside", "difference"]
    cells = [
        (r.name, r.kind, r.formula, r.against, _number(r.difference), r.written_against, _number(r.written_difference))
        for r in report.rows
    ]
    print_table(head, cells)
    _print_notes((r.name, r.notes) for r in report.rows)
    print(report.output)


def _show(source: Path, names: tuple[str, ...], nonlinearity: str, json: bool) -> None:
    """What is in a source: each layer that can be converted was run; the others with the reason."""
    from gatewise.formats.found import Found, Left, converted
    from gatewise.formats.sources import find

    here = [one for one in find(source, nonlinearity=nonlinearity) if not names or one.name in names]
    if not here:
        raise InputError(f"{source} holds no layer of the name {', '.join(map(repr, names))}")
    ready = [converted(one) for one in here if isinstance(one, Found)]
    left = [one for one in here if isinstance(one, Left)]
    if json:
        rows: list[dict[str, Any]] = [
            {
                "name": one.found.name,
                "kind": one.found.kind,
                "formula": str(one.found.stack),
                "against": one.found.reference.against,
                "difference": one.difference,
                "notes": list(one.found.notes),
            }
            for one in ready
        ]
        print(dumps({"layers": rows, "left": [dataclasses.asdict(one) for one in left]}), end="")
        return
    rows_shown = [
        (one.found.shown, one.found.kind, str(one.found.stack), one.found.reference.against, _number(one.difference))
        for one in ready
    ]
    if rows_shown:
        print_table(["layer", "is", "formula", "run beside", "difference"], rows_shown)
    _print_notes((one.found.shown, one.found.notes) for one in ready)
    for one in left:
        print(f"left {one.name or '(unnamed)'}: {one.reason}")


def _print_notes(notes: Any) -> None:
    for name, own in notes:
        for note in own:
            print(f"{name}: {note}")


def _number(value: float) -> str:
    return f"{value:.1e}"
