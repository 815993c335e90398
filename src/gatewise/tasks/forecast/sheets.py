"""The columns of a CSV file, packed or not, of a Parquet file or of a data frame, as they stand there."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import itertools
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.forecast.columns import Reading, Roles, check_names, roles
from gatewise.tasks.forecast.extras import Extra, of_frame, of_texts
from gatewise.tasks.forecast.stamps import Clock, Place, Times, is_dotted, is_time, order_of, times_of, whole_seconds
from gatewise.tasks.forecast.values import Values, checked, mark_of, values_of

SEPARATORS = ("\t", ";", "|", ",")
LOOKED_AT = 20
"""Lines at the beginning of a file that show what separates its columns."""


@dataclass(frozen=True)
class Sheet:
    """Columns as they were read: names of the series (None: there is one), times, values of each target column, and
    further columns.

    clock: the time zone of the times; origin: the library of a data frame, empty for a file; shown: the options
    ``decimal`` and ``date_order`` where the texts show them; counted: whether a frame's names of series are integers;
    dates: whether its times are of a type of dates.
    """

    source: str
    roles: Roles
    ids: Sequence[str] | None
    times: Times
    clock: Clock
    values: tuple[Values, ...]
    names: tuple[str, ...]
    place: Place
    origin: str = ""
    extras: tuple[Extra, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    counted: bool = False
    dates: bool = False


def read_csv(path: Path, reading: Reading, separators: Sequence[str] = SEPARATORS) -> Sheet:
    """Read a CSV file, whose columns are parted by one of some separators."""
    try:
        with _opened(path) as file:
            return _read(file, path, reading, separators)
    except FileNotFoundError:
        raise InputError(f"data: there is no file {path}") from None
    except UnicodeDecodeError:
        raise InputError(f"data: {path} cannot be read: it is not UTF-8 text") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"data: {path} cannot be read: it is not a whole gzip file") from None
    except OSError as error:
        raise InputError(f"data: {path} cannot be read: {error.strerror}") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read(file: IO[str], path: Path, reading: Reading, separators: Sequence[str]) -> Sheet:
    head = list(itertools.islice(file, LOOKED_AT))
    separator = _separator(head, separators)
    rows = _rows(csv.reader(itertools.chain(head, file), delimiter=separator), path)
    first, header = next(rows, (0, []))
    if not header:
        raise InputError(f"data: {path} is empty; expected the columns unique_id, ds, y")
    names = [" ".join(name.split()) for name in header]
    if len(names) == 2 and is_time(names[0]) and not reading.wide and reading.time_col is None:
        found = Roles(None, 0, (1,), "y")
        rows = itertools.chain([(first, header)], rows)
    else:
        found = roles(names, reading, str(path))
    lines, columns = _columns(rows, found, len(names), path)
    if not lines:
        raise InputError(f"data: {path} has no rows below its header")

    def place(i: int) -> str:
        return f"{path} line {lines[i]}"

    times, zoned = times_of(columns[found.time], place, reading.date_order, reading.numbered)
    ids = None if found.identifier is None else columns[found.identifier]
    dotted = separator == ";" or is_dotted(columns[found.time][0])
    other = _other([columns[i] for i in found.targets], dotted, reading)
    how, many = (reading.decimal, dotted, other), _many(found, reading)
    values = tuple(values_of(columns[i], _cell(place, names[i], many), *how) for i in found.targets)
    targets = tuple(names[i] for i in found.targets) if many else ()
    extras = tuple(of_texts(names[i], columns[i], place, reading, dotted, other) for i in found.extras)
    clock = Clock("UTC" if zoned else "")
    beside = [columns[i] for i, extra in zip(found.extras, extras, strict=True) if extra.words is None]
    shown = _shown(columns[found.time], beside, other, reading)
    return Sheet(str(path), found, ids, times, clock, values, targets, place, extras=extras, shown=shown)


def _other(columns: Sequence[Sequence[str]], dotted: bool, reading: Reading) -> str | None:
    """The decimal mark that columns of values show, where they show one and none was asked for."""
    if reading.decimal is not None:
        return None
    marks = {mark_of(texts, dotted).mark for texts in columns} - {None}
    return marks.pop() if len(marks) == 1 else None


def _shown(times: Sequence[str], beside: Sequence[Sequence[str]], mark: str | None, reading: Reading) -> dict[str, str]:
    """The options that texts show and that new data are to be read by; not a mark that covariates contradict."""
    order = None if reading.date_order else order_of(times)
    agreed = mark if all(mark_of(texts).mark in (None, mark) for texts in beside) else None
    return {name: value for name, value in (("date_order", order), ("decimal", agreed)) if value}


def _many(found: Roles, reading: Reading) -> bool:
    """Whether the columns of values have names: those of a wide table, and several targets."""
    return reading.wide or len(found.targets) > 1


def _cell(place: Place, name: str, many: bool) -> Place:
    """Where a value stands: its row and, of many, its column."""
    return (lambda i: f"{place(i)}, column {name!r},") if many else place


def _separator(head: list[str], separators: Sequence[str]) -> str:
    """What gives the same number of columns in the first lines, more than one; else the most in the first of them."""
    widths = {}
    for mark in separators:
        try:
            widths[mark] = [len(row) for row in csv.reader(head, delimiter=mark) if any(map(str.strip, row))]
        except csv.Error:
            widths[mark] = [0]
    for mark, found in widths.items():
        if len(set(found)) == 1 and found[0] > 1:
            return mark
    return max(reversed(separators), key=lambda mark: widths[mark][:1])


def _rows(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the numbers of their lines."""
    found = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"data: {path} cannot be read as CSV after {found} rows: {error}") from None
        if any(map(str.strip, row)):
            found += 1
            yield reader.line_num, row


def _columns(
    rows: Iterator[tuple[int, list[str]]], found: Roles, width: int, path: Path
) -> tuple[Sequence[int], dict[int, list[str]]]:
    """The numbers of the lines, and the columns that are used, each text of names and times in memory once."""
    repeated = [i for i in (found.identifier, found.time) if i is not None]
    columns: dict[int, list[str]] = {i: [] for i in (*repeated, *found.targets, *found.extras)}
    lines, known = array("q"), dict[str, str]()
    for line, row in rows:
        if len(row) != width:
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise InputError(f"data: {path} line {line} has {fields}, expected {width}")
        lines.append(line)
        for i in repeated:
            text = row[i]
            columns[i].append(known.setdefault(text, text))
        for i in (*found.targets, *found.extras):
            columns[i].append(row[i])
    return lines, columns


def read_parquet(path: Path, reading: Reading) -> Sheet:
    """Read a Parquet file by pyarrow, or by polars where that is installed alone."""
    narwhals = need("narwhals")
    if not path.is_file():
        raise InputError(f"data: there is no file {path}")
    library = "pyarrow" if importlib.util.find_spec("pyarrow") or not importlib.util.find_spec("polars") else "polars"
    need(library, "parquet")
    try:
        frame = narwhals.read_parquet(str(path), backend=library)
    except Exception as error:  # of either library, which share no class
        raise InputError(f"data: {path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    return _of_frame(frame, reading, str(path), "")


def read_frame(frame: Any, reading: Reading) -> Sheet:
    """Read a pandas, polars or other eager data frame; a pandas index that holds times or has a name is a column."""
    narwhals = need("narwhals")
    index: Any = getattr(frame, "index", None)
    if hasattr(frame, "reset_index") and (
        type(index).__name__ in ("DatetimeIndex", "PeriodIndex") or any(n is not None for n in index.names)
    ):
        frame = frame.rename("y") if getattr(frame, "name", "") is None else frame
        again = [name for name in index.names if name is not None and name in getattr(frame, "columns", ())]
        if again:
            raise InputError(
                f"data: the data frame has the name {again[0]!r} in its columns and its index; expected one"
            )
        frame = frame.reset_index()
    if index is not None:  # of pandas, which alone has names twice, and of which narwhals says so in its own words
        check_names([str(name) for name in getattr(frame, "columns", ())], "the data frame")
    try:
        eager = narwhals.from_native(frame, eager_only=True)
    except TypeError:
        kind = type(frame).__name__
        raise InputError(f"data must be the path of a CSV file or an eager data frame, got {kind}") from None
    return _of_frame(eager, reading, "the data frame", eager.implementation.name.lower())


def _of_frame(eager: Any, reading: Reading, source: str, origin: str) -> Sheet:
    names = [" ".join(str(name).split()) for name in eager.columns]
    found = roles(names, reading, source)
    if not len(eager):
        raise InputError(f"data: {source} has no rows")

    def place(i: int) -> str:
        return f"{source} row {i}" if origin == "" else f"row {i} of {source}"

    columns = list(eager.iter_columns())
    times, clock = _times(columns[found.time], place, reading)
    ids = None if found.identifier is None else _ids(columns[found.identifier])
    texts = {i: _texts(columns[i]) for i in found.targets if not columns[i].dtype.is_numeric()}
    dates = _texts(columns[found.time]) if columns[found.time].dtype == need("narwhals").String else []
    dotted = bool(dates) and is_dotted(dates[0])
    other, many = _other(list(texts.values()), dotted, reading), _many(found, reading)
    values = tuple(
        values_of(texts[i], _cell(place, names[i], many), reading.decimal, dotted, other)
        if i in texts
        else _values(columns[i], _cell(place, names[i], many))
        for i in found.targets
    )
    targets = tuple(names[i] for i in found.targets) if many else ()
    found, extras = _frame_extras(columns, names, found, place, reading, dotted, other)
    shown = _shown(dates, [], other, reading)
    counted = found.identifier is not None and columns[found.identifier].dtype.is_integer()
    of_days = columns[found.time].dtype == need("narwhals").Date and origin != "pandas"
    return Sheet(source, found, ids, times, clock, values, targets, place, origin, extras, shown, counted, of_days)


def _frame_extras(
    columns: list[Any],
    names: list[str],
    found: Roles,
    place: Place,
    reading: Reading,
    dotted: bool,
    other: str | None,
) -> tuple[Roles, tuple[Extra, ...]]:
    """The covariates; a column that cannot be one, of dates, say, is listed as not read."""
    extras = []
    for i in found.extras:
        texts = None if columns[i].dtype.is_numeric() else _texts(columns[i])
        extra = of_frame(names[i], columns[i], texts, place, reading, dotted, other)
        if extra is not None:
            extras.append(extra)
        elif names[i] in reading.covariates:
            raise InputError(f"data: the column {names[i]!r} holds times, expected numbers or words")
        else:
            found = replace(found, ignored=(*found.ignored, names[i]))
    return found, tuple(extras)


def _texts(column: Any) -> list[str]:
    """A column of a frame as texts, a missing entry as an empty one."""
    found = column.to_list()
    missing = column.is_null().to_list()
    return [
        "" if none else value.isoformat() if hasattr(value, "isoformat") else str(value)
        for value, none in zip(found, missing, strict=True)
    ]


def _ids(column: Any) -> list[str]:
    return ["" if none else str(v) for v, none in zip(column.to_list(), column.is_null().to_list(), strict=True)]


def _times(column: Any, place: Place, reading: Reading) -> tuple[Times, Clock]:
    narwhals = need("narwhals")
    zone, clocks, utc = _zone(column)
    if zone:
        local = _at_one_hour(clocks) if reading.local is None else reading.local
        return whole_seconds(clocks if local else utc, place), Clock(zone, local)
    if isinstance(column.dtype, narwhals.Datetime):
        times = column.to_numpy()
        if times.dtype.kind == "M":
            return whole_seconds(times, place), Clock()
    texts = None
    if column.dtype.is_float() and not column.is_null().any():
        numbers = column.to_numpy()
        if (numbers == np.rint(numbers)).all() and (np.abs(numbers) < 2**53).all():
            texts = [str(int(n)) for n in numbers]
    times, zoned = times_of(texts or _texts(column), place, reading.date_order, reading.numbered)
    return times, Clock("UTC" if zoned else "")


def _zone(column: Any) -> tuple[str, Any, Any]:
    """The time zone of a column, what its clocks show, and the same in UTC; an empty name for none.

    narwhals 2.28 takes times of pandas in a zone with a line in its name, America/New_York, for no times: so pandas is
    asked itself.
    """
    native = column.to_native()
    tz = getattr(getattr(native, "dtype", None), "tz", None)
    if tz is not None:
        times = native.dt
        return str(tz), times.tz_localize(None).to_numpy(), times.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    zone = getattr(column.dtype, "time_zone", None)
    if zone is None:
        return "", None, None
    clocks, utc = column.dt.replace_time_zone(None), column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return str(zone), clocks.to_numpy(), utc.to_numpy()


def _at_one_hour(times: Any) -> bool:
    """Whether times of several days stand at the same hour of their clocks: then days count, be they of 23 hours."""
    if np.isnat(times).any():
        return False
    days = times.astype("datetime64[D]")
    return bool((times - days == (times - days)[:1]).all() and (days != days[:1]).any())


def _values(column: Any, place: Place) -> Values:
    narwhals = need("narwhals")
    return checked(np.asarray(column.cast(narwhals.Float64).fill_null(np.nan).to_numpy(), np.float64), place)
