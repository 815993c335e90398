"""Reading the long table ``unique_id, ds, y`` from CSV files and data frames, and writing it back."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.forecast.stamps import Stamp, stamp_of

Times = NDArray[np.datetime64]
Values = NDArray[np.float64]
Columns = tuple[int | None, int, int]
"""Positions of unique_id, if there is one, ds and y."""

COLUMNS = ("unique_id", "ds", "y")
NO_HEADER: Columns = (None, 0, 1)
MISSING = {"", "na", "nan", "null", "none"}
SEPARATORS = {"semicolons": ";", "tabs": "\t"}
LARGEST = 1e30
EMBEDDED = Path(__file__).with_name("co2.csv")
EMBEDDED_NAME = "CO₂ at Mauna Loa (ppm)"


@dataclass(frozen=True)
class Table:
    """Observations by series: id → (time stamps ascending, values with NaN where missing); ``label`` says what of."""

    series: dict[str, tuple[Times, Values]]
    label: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and to_csv(self) == to_csv(other)


def read(data: Any) -> Table:
    """Read data from None (the embedded CO₂ series), the path of a CSV file, or a pandas, polars or other data frame.

    The embedded series holds weekly means of the CO₂ concentration at Mauna Loa, Hawaii, March 1958 to December 2001,
    with 59 weeks missing: C. D. Keeling and T. P. Whorf, "Atmospheric CO₂ concentrations derived from flask air samples
    at sites in the SIO network", Carbon Dioxide Information Analysis Center, 2004; measured at NOAA's observatory;
    public domain.

    Raises:
        InputError: for a missing file or column, an unparsable date or number, a duplicated time stamp, or no rows.
    """
    if data is None:
        return Table(read_csv(EMBEDDED).series, EMBEDDED_NAME)
    if isinstance(data, Table):
        return data
    if isinstance(data, (str, Path)):
        return read_csv(Path(data))
    return read_frame(data)


def read_csv(path: Path) -> Table:
    """Read a CSV file with the columns ``unique_id, ds, y`` (or ``ds, y``), or with just two: time and value."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"data: there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InputError(f"data: {path} cannot be read: {reason}") from None
    rows = _rows(text, path)
    if not rows:
        raise InputError(f"data: {path} is empty; expected the columns unique_id, ds, y")
    header = [name.strip() for name in rows[0][1]]
    if len(header) == 2 and stamp_of(header[0]) is not None:
        columns, label = NO_HEADER, "y"
    else:
        columns, label = _columns(header, str(path))
        rows = rows[1:]
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(f"data: {path} line {number} has {len(row)} fields, expected {len(header)}")
    identifier, time, value = columns
    return _table(
        ["" if identifier is None else row[identifier].strip() for _, row in rows],
        [row[time] for _, row in rows],
        [row[value] for _, row in rows],
        [f"{path} line {number}" for number, _ in rows],
        label,
        str(path),
    )


def _rows(text: str, path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, with their numbers from 1."""
    found = []
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
            if any(map(str.strip, row)):
                found.append((number, row))
    except csv.Error as error:
        raise InputError(f"data: {path} cannot be read as CSV after {len(found)} rows: {error}") from None
    return found


def read_frame(frame: Any) -> Table:
    """Read a data frame with the same columns as a CSV file, through narwhals."""
    narwhals = need("narwhals")
    try:
        eager = narwhals.from_native(frame, eager_only=True)
    except TypeError:
        kind = type(frame).__name__
        raise InputError(f"data must be the path of a CSV file or an eager data frame, got {kind}") from None
    (identifier, time, value), label = _columns(list(eager.columns), "the data frame")
    times, values = (eager[eager.columns[i]].to_list() for i in (time, value))
    ids = [""] * len(times) if identifier is None else [str(v) for v in eager[eager.columns[identifier]].to_list()]
    return _table(ids, times, values, [f"row {i}" for i in range(len(ids))], label, "the data frame")


def _columns(header: list[str], place: str) -> tuple[Columns, str]:
    """Positions of unique_id (if any), ds and y, and the label of the values."""
    if "ds" in header and "y" in header:
        identifier = header.index("unique_id") if "unique_id" in header else None
        return (identifier, header.index("ds"), header.index("y")), "y"
    if len(header) == 2:
        return NO_HEADER, header[1]
    found = [name for name, mark in SEPARATORS.items() if mark in header[0]] if len(header) == 1 else []
    if found:
        raise InputError(f"data: {place} seems to be separated by {found[0]}; expected commas between its columns")
    raise InputError(f"data: {place} has the columns {', '.join(header)}; expected unique_id, ds, y or two columns")


def _table(
    ids: list[str], times: Iterable[Any], values: Iterable[Any], places: list[str], label: str, source: str
) -> Table:
    """Check and group the rows; a place says where a row stands, for the errors."""
    rows: dict[str, dict[np.datetime64, float]] = {}
    zoned: dict[str, bool] = {}
    for identifier, raw_time, raw_value, place in zip(ids, times, values, places, strict=True):
        stamp = _stamp(raw_time, place)
        if stamp.zoned != zoned.setdefault("first", stamp.zoned):
            here, there = ("a", "none") if stamp.zoned else ("no", "one")
            raise InputError(
                f"data: {place} has {here} time zone in {str(raw_time)!r}, but the rows before have {there}; "
                "expected one in every row or in none"
            )
        time = stamp.time
        series = rows.setdefault(identifier, {})
        if time in series:
            raise InputError(f"data: {place} repeats the time {raw_time}{_of(identifier)}; expected each time once")
        series[time] = _number(raw_value, place)
    if not rows:
        raise InputError(f"data: {source} has no rows below its header")
    return Table({name: _sorted(series) for name, series in rows.items()}, label)


def _stamp(raw: Any, place: str) -> Stamp:
    stamp = stamp_of(raw)
    if stamp is None:
        raise InputError(f"data: {place} has the time {str(raw)!r}; expected a date such as 2001-12-29")
    if not stamp.exact:
        raise InputError(f"data: {place} has the time {str(raw)!r}; expected whole seconds")
    return stamp


def _of(identifier: str) -> str:
    return f" of series {identifier!r}" if identifier else ""


def _sorted(series: dict[np.datetime64, float]) -> tuple[Times, Values]:
    times = np.array(list(series), dtype="datetime64[s]")
    order = np.argsort(times)
    return times[order], np.array(list(series.values()), dtype=np.float64)[order]


def _number(raw: Any, place: str) -> float:
    if raw is None or str(raw).strip().lower() in MISSING:
        return math.nan
    try:
        value = float(raw)
    except (TypeError, ValueError):
        value = math.inf
    if math.isinf(value):
        raise InputError(f"data: {place} has the value {str(raw)!r}; expected a number, or nothing where it is missing")
    if abs(value) > LARGEST:
        raise InputError(
            f"data: {place} has the value {str(raw)!r}; expected a number from -{LARGEST:g} to {LARGEST:g}"
        )
    return value


def time_text(times: Times) -> list[str]:
    """Time stamps as text, without the time of day where it is midnight throughout."""
    days = times.astype("datetime64[D]")
    return [str(t).replace("T", " ") for t in (days if bool((days == times).all()) else times)]


def rows(table: Table) -> list[tuple[str, str, float]]:
    """The rows (unique_id, ds, y) of the long table."""
    return [
        (name, time, float(value))
        for name, (times, values) in table.series.items()
        for time, value in zip(time_text(times), values, strict=True)
    ]


def to_csv(table: Table) -> str:
    """The long table as CSV text; reading it gives the same table."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((name, time, "" if math.isnan(y) else repr(y)) for name, time, y in rows(table))
    return buffer.getvalue()
