"""``convert``: recurrent layers from one format into another, each run on both sides before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.errors import InputError
from gatewise.formats.found import Converted, Found, Here, Left, converted
from gatewise.formats.sources import find
from gatewise.formats.state_dicts import Nonlinearity
from gatewise.formats.targets import TARGETS
from gatewise.formats.written import Checks, checked_content
from gatewise.writing import write_beside


@dataclass(frozen=True)
class Row:
    """A layer that was converted.

    Args:
        name: in the source. kind: there, such as ``torch.nn.GRU``. formula: with sizes. against: what the source was
            run with. difference: between it and Gatewise. written_against, written_difference: the same of the file
            that was written. notes: what the source does not say, and what was taken.
    """

    name: str
    kind: str
    formula: str
    against: str
    difference: float
    written_against: str
    written_difference: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What ``convert`` wrote."""

    output: Path
    rows: tuple[Row, ...]


def layers(
    source: Any, names: Sequence[str] = (), *, variables: Any = None, nonlinearity: Nonlinearity = None
) -> dict[str, Converted]:
    """The recurrent layers of a source as Gatewise's layers, each run beside what it was made of.

    Args:
        source, variables, nonlinearity: as in ``find``. names: of the layers that are wanted; all of them where none is
            given.

    Raises:
        InputError: when the source cannot be read, a layer is of a kind that Gatewise does not compute, its weights are
            not finite, or the two differ.
    """
    here = chosen(find(source, variables=variables, nonlinearity=nonlinearity), names)
    return {found.name: converted(found) for found in here}


def layer(source: Any, name: str | None = None, *, variables: Any = None, nonlinearity: Nonlinearity = None) -> Any:
    """The one recurrent layer of a source, or the one of that name, as a checked layer of Gatewise's.

    A layer alone has no notes, as the results of ``layers`` and ``convert`` have: where the source does not say which
    activations it computes with, a ``UserWarning`` says which were taken.

    Raises:
        InputError: as ``layers``; and where there are several and none is named.
    """
    wanted = () if name is None else (name,)
    found = layers(source, wanted, variables=variables, nonlinearity=nonlinearity)
    if len(found) > 1:
        raise InputError(f"the source holds {len(found)} layers, name one of them: {', '.join(found)}")
    (one,) = found.values()
    for note in one.found.assumed:
        warnings.warn(f"layer {one.found.shown}: {note}", stacklevel=2)
    return one.layer


def chosen(here: Here, names: Sequence[str]) -> list[Found]:
    """The layers of these names, or all.

    Raises:
        InputError: for a name that is none, and a layer that Gatewise does not compute.
    """
    names = (names,) if isinstance(names, str) else names
    known = [one.name for one in here]
    for name in names:
        if name not in known:
            raise InputError(f"layer must be one of {', '.join(n or '(unnamed)' for n in known)}, got {name!r}")
    wanted = [one for one in here if not names or one.name in names]
    twice = next((one.name for k, one in enumerate(wanted) if one.name in [o.name for o in wanted[:k]]), None)
    if twice is not None:
        raise InputError(f"two layers are called {twice!r}, expected different names")
    for one in wanted:
        if isinstance(one, Left):
            shown = "" if one.name and one.name in one.reason else f"layer {one.name or '(unnamed)'}: "
            raise InputError(f"{shown}{one.reason}")
    return [one for one in wanted if isinstance(one, Found)]


def convert(
    source: Any,
    to: str,
    output: str | Path,
    names: Sequence[str] = (),
    *,
    variables: Any = None,
    nonlinearity: Nonlinearity = None,
    force: bool = False,
) -> Report:
    """Write the recurrent layers of a source in another format.

    Args:
        source, variables, nonlinearity: as in ``find``. to: torch, gatewise, keras, flax (its nnx), linen, equinox or
            onnx. output: the file; its suffix says how torch's, Flax's and Equinox's arrays are stored. names: of the
            layers that are wanted; all of them where none is given. force: write over a file that is there.

    Returns:
        What was written, with the differences that were found.

    Raises:
        InputError: as ``layers``; when the format has no place for a layer, or what it holds differs from Gatewise's
            layer; and when the file exists. Nothing is written then.
    """
    path = _output(to, output, force)
    found = layers(source, names, variables=variables, nonlinearity=nonlinearity)
    content, checks = checked_content(to, found, suffix_of(to, path))
    write_beside(path, content)
    return Report(path, tuple(_row(one, checks, name) for name, one in found.items()))


def _row(one: Converted, checks: Checks, name: str) -> Row:
    found, (against, apart) = one.found, checks[name]
    return Row(
        found.shown, found.kind, str(found.stack), found.reference.against, one.difference, against, apart, found.notes
    )


def suffix_of(to: str, path: Path) -> str:
    """The suffix of an output, one of the format's."""
    return next((s for s in TARGETS[to].suffixes if path.name.lower().endswith(s)), "")


def _output(to: str, output: str | Path, force: bool) -> Path:
    if to not in TARGETS:
        raise InputError(f"to must be one of {', '.join(TARGETS)}, got {to!r}")
    path = Path(output)
    suffixes = TARGETS[to].suffixes
    suffix = suffix_of(to, path)
    if not suffix or path.name.lower() == suffix:
        raise InputError(f"output file of {to} must end in {' or '.join(suffixes)}, got {str(output)!r}")
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise InputError(f"output file {path} is no file")
    if path.exists() and not force:
        raise InputError(f"output file {path} exists; choose another name, or write over it with --force")
    if not path.parent.is_dir():
        raise InputError(f"output file {path} lies in {path.parent}, which is no directory")
    return path
