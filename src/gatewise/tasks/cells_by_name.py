"""Cells by name: a built-in one, or a user's own as ``module:cell`` or ``path/to/file.py:cell``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gatewise import cells
from gatewise.compiler import Cell
from gatewise.tasks.errors import InputError


def cell_of(value: str | Cell) -> Cell:
    """A cell by name, one of the user's own as ``module:cell`` or ``file.py:cell``, or the cell itself.

    Raises:
        InputError: for a name that is none; the sentence lists the names.
    """
    if isinstance(value, Cell):
        return value
    if isinstance(value, str) and ":" in value:
        return imported(value)
    try:
        return cells.get(value)
    except ValueError as error:
        raise InputError(str(error)) from None


def imported(name: str) -> Cell:
    """Import the cell that a name such as ``mycells:mycell`` stands for; modules beside the working directory count.

    Raises:
        InputError: for a module that cannot be imported, or a name in it that is no cell.
    """
    place, _, attribute = name.rpartition(":")
    module = _from_file(Path(place), name) if place.endswith(".py") else _from_name(place, name)
    value = getattr(module, attribute, None)
    if not isinstance(value, Cell):
        own = [key for key, held in vars(module).items() if isinstance(held, Cell)]
        raise InputError(
            f"cell {name!r}: {place} has no cell {attribute!r}; its cells are {', '.join(own) or 'none'} "
            "(a cell is a function decorated with gatewise.cell)"
        )
    return value


def _from_name(place: str, name: str) -> ModuleType:
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise InputError(f"cell {name!r}: module {place!r} cannot be imported: {error}") from None
    finally:
        sys.path[:] = before


def _from_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise InputError(f"cell {name!r}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"cell {name!r}: {path} cannot be run: {error}") from None
    return module
