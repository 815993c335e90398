"""``gatewise info`` and ``gatewise cells``: what is here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatewise.cli.common import Json, Text
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, new_file, write_bytes
from gatewise.tasks.verbs import print_table


def info(json: Json = False) -> None:
    """Versions, instruction tier, threads, backends and why, cache."""
    from gatewise import backends

    report = backends.report()
    if json:
        print(dumps(report), end="")
        return
    for name, value in report.items():
        _print_item(name, value)


def _print_item(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _print_item(f"{name}.{key}", item)
    else:
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        print(f"{name:<18} {text}")


def cells(
    name: Annotated[
        Text,
        typer.Argument(metavar="NAME", help="One cell; one's own as module:cell or file.py:cell.", show_default="all"),
    ] = None,
    input_size: Annotated[int, typer.Option(help="Width of x, for the parameter count.", min=1)] = 64,
    hidden_size: Annotated[int, typer.Option(help="Width of the state, for the parameter count.", min=1)] = 64,
    diagram: Annotated[
        Text, typer.Option(metavar="FILE.svg", help="Draw the cell into a new file.", show_default="no drawing")
    ] = None,
    json: Json = False,
) -> None:
    """The built-in cells, or one's own: equations, source, parameter count, diagram."""
    from gatewise.cells import names

    if diagram is not None:
        _draw(name, diagram)

    chosen = [cell_of(name)] if name else [cell_of(one) for one in names()]
    records = [
        {
            "name": cell.name,
            "source": cell.source,
            "equations": cell.equations().splitlines(),
            "parameters": cell.parameter_count(input_size, hidden_size),
        }
        for cell in chosen
    ]
    if json:
        print(dumps(records), end="")
    elif name:
        print(f"{chosen[0].source}\n\n{chosen[0].equations()}\n")
        print(f"{records[0]['parameters']:,} parameters at input size {input_size} and hidden size {hidden_size}")
    else:
        rows = [(str(r["name"]), f"{r['parameters']:,}", str(r["source"])) for r in records]
        print_table(["cell", f"parameters at {input_size}, {hidden_size}", "source"], rows)


def _draw(name: str | None, path: str) -> None:
    from gatewise.study.diagram import diagram

    if name is None:
        raise InputError("--diagram draws one cell: name it before, as in gatewise cells gru --diagram gru.svg")
    cell = cell_of(name)
    write_bytes(new_file(path, (".svg",)), diagram(cell).encode())
