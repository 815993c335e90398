"""What follows from times and ceilings: ratios, rates, shares of the floor, goals missed. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benches.columns import COLUMNS, LOOP, Column
from benches.floor import Ceilings
from benches.shapes import CALL, Shape

Record = dict[str, Any]
BY_NAME: dict[str, Column] = {c.name: c for c in (*COLUMNS, LOOP)}


def complete(record: Record, ceilings: Ceilings) -> Record:
    """A shape's record with the figures that follow from its times; columns with wrong numbers get none."""
    shape, columns = Shape.read(record["shape"]), record["columns"]
    return {
        **record,
        "columns": {name: {**c, **_figures(shape, name, columns, ceilings)} for name, c in columns.items()},
    }


def _figures(shape: Shape, name: str, columns: Mapping[str, Record], ceilings: Ceilings) -> Record:
    if "ms" not in columns[name]:
        return {}
    ms, column = columns[name]["ms"], BY_NAME[name]
    found: Record = {"spread": (ms["upper"] - ms["lower"]) / ms["median"]}
    rival = columns.get(column.rival, {})
    if "ms" in rival:
        found["ratio"] = rival["ms"]["median"] / ms["median"]
        found["disturbed"] = max(ms["disturbed"], rival["ms"]["disturbed"]) == 1
    if shape.kind != CALL:
        floor, bound = ceilings.floor(shape, column.formula)
        found["gflops"] = shape.operations(column.formula) / ms["median"] / 1e6
        found |= {"floor_ms": floor, "bound": bound, "share": floor / ms["median"]}
        if "ratio" in found:
            # The ratio that a layer standing on the floor itself would have.
            found["ratio_at_floor"] = rival["ms"]["median"] / floor
    return found


def _judged(records: Iterable[Record]) -> Iterator[tuple[Shape, str, Record]]:
    """The figures that have a goal and can be held against it: other processes had no part in every sample."""
    for record in records:
        shape = Shape.read(record["shape"])
        for name, column in record["columns"].items():
            if shape.kind != CALL and "ratio" in column and not column["disturbed"]:
                yield shape, name, column


def compared(records: Iterable[Record]) -> int:
    """How many figures can be held against a goal."""
    return sum(1 for _ in _judged(records))


def disturbed(records: Iterable[Record]) -> int:
    """How many figures cannot, because other processes took a core in every sample."""
    columns = (c for r in records if Shape.read(r["shape"]).kind != CALL for c in r["columns"].values())
    return sum("ratio" in column and column["disturbed"] for column in columns)


def missed(records: Iterable[Record]) -> list[Record]:
    """Every figure below its goal."""
    return [
        {"shape": str(shape), "column": name, "goal": shape.goal, **column}
        for shape, name, column in _judged(records)
        if column["ratio"] < shape.goal
    ]


def wrong(records: Iterable[Record]) -> list[str]:
    """A sentence for every column whose numbers are wrong."""
    return [
        f"{record['shape']} at {record['threads']} threads: {column['wrong']}"
        for record in records
        for column in record["columns"].values()
        if "wrong" in column
    ]
