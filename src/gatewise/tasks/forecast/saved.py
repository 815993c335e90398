"""The data of a fit in the directory of a model: rows, covariates, and the form in which forecasts come back."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, read_json, write_bytes
from gatewise.tasks.forecast.columns import Reading
from gatewise.tasks.forecast.scheme import Scheme
from gatewise.tasks.forecast.stamps import Clock
from gatewise.tasks.forecast.table import Table, read_saved, to_csv

DATA, COVARIATES, FORM = "data.csv", "covariates.json", "form.json"
FILES = DATA, COVARIATES, FORM


@dataclass(frozen=True)
class Form:
    """The form of a table that its rows as texts do not show: see ``Table`` and ``Clock``."""

    origin: str = ""
    zone: str = ""
    local: bool = False
    counted: bool = False
    dates: bool = False

    @classmethod
    def of(cls, table: Table) -> Form:
        """That of a table."""
        return cls(table.origin, *table.clock, table.counted, table.dates)

    @classmethod
    def read(cls, path: Path) -> Form:
        """What was written into a file.

        Raises:
            InputError: for a damaged file.
        """
        found = read_json(path)
        kinds = {f.name: type(f.default) for f in fields(cls)}
        if set(found) != set(kinds) or not all(isinstance(found[name], kind) for name, kind in kinds.items()):
            raise InputError(f"{path} is damaged: expected {', '.join(kinds)}")
        return cls(**found)

    def given(self, table: Table) -> Table:
        """A table of this form; a dict where the library of the data frame is not installed here."""
        there = self.origin and importlib.util.find_spec("narwhals") and importlib.util.find_spec(self.origin)
        clock = Clock(self.zone, self.local)
        return replace(table, origin=self.origin if there else "", clock=clock, counted=self.counted, dates=self.dates)


def write(folder: Path, table: Table, scheme: Scheme) -> None:
    """Write the data of a fit; the covariates and the form only where there is something to say."""
    write_bytes(folder / DATA, to_csv(table).encode())
    if scheme.features:
        write_bytes(folder / COVARIATES, scheme.to_json())
    if Form.of(table) != Form():
        write_bytes(folder / FORM, dumps(asdict(Form.of(table))).encode())


def read(folder: Path, targets: Sequence[str] = ()) -> tuple[Table, Scheme]:
    """What ``write`` wrote.

    Args:
        targets: what series are of, if all of them are of one of several.

    Raises:
        InputError: for a missing or damaged file.
    """
    path = folder / DATA
    if not path.is_file():
        raise InputError(f"{folder} is not a forecast model directory: {DATA} is missing")
    known = Scheme.read(folder / COVARIATES) if (folder / COVARIATES).is_file() else Scheme()
    table = read_saved(path, known.reading(Reading()), targets)
    form = Form.read(folder / FORM) if (folder / FORM).is_file() else Form()
    return form.given(table), known
