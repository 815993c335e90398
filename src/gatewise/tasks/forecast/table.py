"""The long table ``unique_id, ds, y``: read from files and data frames, grouped by series, and written back."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.forecast.columns import COLUMNS, Reading, joined, parted
from gatewise.tasks.forecast.covariates import Covariate, chosen, text_of
from gatewise.tasks.forecast.sheets import Sheet, read_csv, read_frame, read_parquet
from gatewise.tasks.forecast.stamps import Clock
from gatewise.tasks.forecast.stamps import Times as Times  # the other parts take them from here
from gatewise.tasks.forecast.values import Values as Values

UNZONED = Clock()
EMBEDDED = Path(__file__).with_name("co2.csv")
EMBEDDED_NAME = "CO₂ at Mauna Loa (ppm)"
PARQUET = (".parquet", ".pq")
SAVED_AS: dict[str, Any] = {"date_order": None, "decimal": ".", "id_col": None, "time_col": None, "target_col": None}
SAVED_AS |= {"wide": False, "numbered": True, "settled": True}
"""How ``to_csv`` writes: digits are never a date."""
SAVED = Reading()


class Unusable(NamedTuple):
    """A series that cannot be used, and why: what the series has or does, in words that go on from its name."""

    unique_id: str
    reason: str

    @property
    def sentence(self) -> str:
        """Series 'a' has … ."""
        return f"series {self.unique_id!r} {self.reason}" if self.unique_id else f"the series {self.reason}"


@dataclass(frozen=True)
class Table:
    """Observations by series: id → (times ascending, values with NaN where missing); ``label`` says what of.

    ignored: columns that were not read. unusable: series that could not be. origin: the library of the data frame that
    it was read from, such as pandas; clock: the time zone of its times; counted: whether ``unique_id`` are integers;
    dates: whether its times are of a type of dates. columns: the covariates; extras: their values (times, columns) by
    series, where there are any. whole: whether missing values at the end of a series with covariates known ahead are
    part of it; else it ends before them. shown: options of reading that its texts show. targets: where there are
    several, each of them is a series, named as ``columns.joined`` says.
    """

    series: dict[str, tuple[Times, Values]]
    label: str
    ignored: tuple[str, ...] = ()
    unusable: tuple[Unusable, ...] = ()
    origin: str = ""
    clock: Clock = UNZONED
    columns: tuple[Covariate, ...] = ()
    extras: Mapping[str, Values] = field(default_factory=dict)
    whole: bool = False
    targets: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    counted: bool = False
    dates: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and to_csv(self) == to_csv(other)


def read(data: Any, reading: Reading | None = None) -> Table:
    """Read data from None (the embedded CO₂ series), the path of a CSV or Parquet file, or an eager data frame.

    The embedded series holds weekly means of the CO₂ concentration at Mauna Loa, Hawaii, March 1958 to December 2001,
    with 59 weeks missing: C. D. Keeling and T. P. Whorf, "Atmospheric CO₂ concentrations derived from flask air samples
    at sites in the SIO network", Carbon Dioxide Information Analysis Center, 2004; measured at NOAA's observatory;
    public domain.

    Raises:
        InputError: for a missing file or column, a time or number that cannot be read or may be two, or no series that
            can be used.
    """
    reading = reading or Reading()
    if data is None:
        return Table(read_saved(EMBEDDED).series, EMBEDDED_NAME)
    if isinstance(data, Table):
        return data
    if not isinstance(data, (str, Path)):
        return _table(read_frame(data, reading), reading)
    path = Path(data)
    return _table((read_parquet if path.suffix.lower() in PARQUET else read_csv)(path, reading), reading)


def as_past(table: Table, names: Sequence[str]) -> Table:
    """The table with covariates of these names known up to the forecast."""
    return replace(table, columns=tuple(replace(c, role="past") if c.name in names else c for c in table.columns))


def read_saved(path: Path, roles: Reading = SAVED, targets: Sequence[str] = ()) -> Table:
    """Read what ``to_csv`` wrote, whatever options the data were once read by: digits are integers there, no dates.

    Args:
        roles: names the columns of covariates. targets: what series are of, if all of them are of one of these.
    """
    reading = replace(roles, **SAVED_AS)
    table = _table(read_csv(path, reading, ","), reading)
    several = len(targets) > 1 and all(parted(name)[1] in targets for name in table.series)
    return replace(table, targets=tuple(targets)) if several else table


def read_ahead(data: Any, reading: Reading, check: Callable[[Table], None] = lambda table: None) -> Table:
    """Read covariates of the future, a file or a data frame as ``read`` takes; its targets are missing.

    Args:
        check: raises InputError for what does not go with the model.

    Raises:
        InputError: as ``read``.
    """
    known = {name: role for name, role in reading.covariates.items() if role == "future"}
    try:
        table = read(data, replace(reading, covariates=known, ahead=True))
        check(table)
        return table
    except InputError as error:
        raise InputError(re.sub("^data: ", "future: ", str(error))) from None


def _table(sheet: Sheet, reading: Reading) -> Table:
    """Group the rows by series, in the order in which series appear."""
    label, ignored = sheet.roles.label, sheet.roles.ignored
    groups = dict.fromkeys(sheet.names, np.arange(len(sheet.times))) if reading.wide else _groups(sheet)
    found = {name: _ordered(sheet, rows) for name, rows in groups.items()}
    values = sheet.values or (np.full(len(sheet.times), np.nan),)
    of = dict(zip(sheet.names, values, strict=True)) if reading.wide else dict.fromkeys(found, values[0])
    rows = {name: part for name, part in found.items() if not isinstance(part, str)}
    unusable = tuple(Unusable(name, part) for name, part in found.items() if isinstance(part, str))
    if not rows:
        hint = "; id_col names the column that tells series apart" if sheet.ids is None and not reading.wide else ""
        raise none_left(unusable, hint if ignored or sheet.extras else "")
    targets = sheet.names if len(values) > 1 and not reading.wide else ()
    columns, extras, left = chosen(sheet.extras, reading, rows, _any(values) if targets else values[0])
    if targets:
        of = {joined(name, target): own for name in rows for target, own in zip(targets, values, strict=True)}
        rows = {joined(name, target): part for name, part in rows.items() for target in targets}
    series = {name: (sheet.times[part], of[name][part]) for name, part in rows.items()}
    beside = {name: extras[part] for name, part in rows.items()} if columns else {}
    ignored = (*ignored, *left)
    found_as: dict[str, Any] = {"shown": sheet.shown, "counted": sheet.counted, "dates": sheet.dates}
    found_as["targets"] = targets
    return Table(series, label, ignored, unusable, sheet.origin, sheet.clock, columns, beside, **found_as)


def _any(values: Sequence[Values]) -> Values:
    """A value where any target has one."""
    return np.where(np.isnan(np.stack(values)).all(0), np.nan, 0.0)


def _groups(sheet: Sheet) -> dict[str, NDArray[np.intp]]:
    """The rows of each series."""
    if sheet.ids is None:
        return {"": np.arange(len(sheet.times))}
    index: dict[str, int] = {}
    codes = np.array([index.setdefault(name, len(index)) for name in sheet.ids], np.intp)
    order = np.argsort(codes, kind="stable")
    found: dict[str, list[NDArray[np.intp]]] = {}
    ends = np.cumsum(np.bincount(codes, minlength=len(index)))[:-1]
    for name, rows in zip(index, np.split(order, ends), strict=True):
        found.setdefault(name.strip(), []).append(rows)
    if "" in found and len(found) > 1:
        raise InputError(f"data: {sheet.place(int(found[''][0][0]))} has no unique_id")
    return {name: rows[0] if len(rows) == 1 else np.sort(np.concatenate(rows)) for name, rows in found.items()}


def _ordered(sheet: Sheet, rows: NDArray[np.intp]) -> NDArray[np.intp] | str:
    """The rows of a series by time; a text that says why where a time repeats."""
    times = sheet.times[rows]
    if (times[1:] > times[:-1]).all():
        return rows
    order = np.argsort(times, kind="stable")
    times = times[order]
    again = times[1:] == times[:-1]
    if again.any():
        later = order[1:][again]
        i = int(later.min())
        time = time_text(times[1:][again][[int(later.argmin())]])[0]
        return f"repeats the time {time} in {sheet.place(int(rows[i]))}; expected each time once"
    return rows[order]


class NoSeries(InputError):
    """Data of which no series can be used."""


def none_left(unusable: Sequence[Unusable], hint: str = "") -> NoSeries:
    """The error for data of which no series can be used."""
    more = f"; none of the other {len(unusable) - 1} series can be used either" if len(unusable) > 1 else ""
    return NoSeries(f"data: {unusable[0].sentence}{hint}{more}")


def check_zone(table: Table, own: Table) -> None:
    """Whether the times of new data name a time zone must be as in those of the fit.

    Raises:
        InputError: where it is not.
    """
    zone, expected = table.clock.zone, own.clock.zone
    if zone and not expected:
        raise InputError(
            f"data: its times are in the time zone {zone}, but those of the fit are in none; expected none"
        )
    if expected and not zone:
        raise InputError(
            f"data: its times are in no time zone, but those of the fit are in {expected}; expected a zone"
        )


def time_text(times: Times) -> list[str]:
    """Times as text, without the time of day where it is midnight throughout."""
    if times.dtype.kind != "M":
        return [str(time) for time in times.tolist()]
    days = times.astype("datetime64[D]")
    if bool((days == times).all()):
        return list(np.datetime_as_string(days).tolist())
    return [text.replace("T", " ") for text in np.datetime_as_string(times).tolist()]


def rows(table: Table) -> list[tuple[str, str, float]]:
    """The rows (unique_id, ds, y) of the long table."""
    return [
        (name, time, value)
        for name, (times, values) in table.series.items()
        for time, value in zip(time_text(times), values.tolist(), strict=True)
    ]


def to_csv(table: Table) -> str:
    """The long table as CSV text, covariates behind it; ``read_saved`` gives the same table."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *(column.name for column in table.columns)])
    for name, (times, values) in table.series.items():
        own = table.extras[name] if table.columns else np.empty((len(times), 0))
        beside = ([text_of(c, v) for c, v in zip(table.columns, row, strict=True)] for row in own.tolist())
        start = zip(time_text(times), values.tolist(), beside, strict=True)
        writer.writerows((name, time, "" if math.isnan(y) else repr(y), *more) for time, y, more in start)
    return buffer.getvalue()


def like(table: Table, columns: Mapping[str, Any]) -> Any:
    """Columns as the kind of data frame that a table was read from; as they are where it was none.

    Times are in the time zone of the table's, dates where these are, and ``unique_id`` integers where these are.

    Raises:
        InputError: for a time that the clocks of its zone do not show, or show twice.
    """
    if not table.origin:
        return dict(columns)
    narwhals = need("narwhals")
    fine = {name: _microseconds(np.asarray(column)) for name, column in columns.items()}
    if table.counted:
        fine["unique_id"] = fine["unique_id"].astype(np.int64)
    frame = narwhals.from_dict(fine, backend=table.origin)
    times = [name for name in ("ds", "cutoff") if name in fine]
    if table.clock.zone:
        frame = _in_zone(frame, table.clock, times)
    elif table.dates and all((fine[name] == fine[name].astype("datetime64[D]")).all() for name in times):
        frame = frame.with_columns(narwhals.col(*times).cast(narwhals.Date))
    return frame.to_native()


def _in_zone(frame: Any, clock: Clock, names: Sequence[str]) -> Any:
    times: Any = need("narwhals").col(*names).dt
    if not clock.local:
        return frame.with_columns(times.replace_time_zone("UTC").dt.convert_time_zone(clock.zone))
    try:
        return frame.with_columns(times.replace_time_zone(clock.zone))
    except Exception as error:  # of the libraries, which share no class
        raise InputError(
            f"data: the forecast has a time that clocks of {clock.zone} do not show, or twice; expected times without "
            f"a zone ({str(error).splitlines()[0]})"
        ) from None


def _microseconds(column: NDArray[Any]) -> NDArray[Any]:
    """Times in the unit that every library of data frames has."""
    return column.astype("datetime64[us]") if column.dtype.kind == "M" else column
