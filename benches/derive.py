"""What follows from times and ceilings: ratios, rates, shares of the floor. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benches.columns import COLUMNS, LOOP, Column
from benches.floor import Ceilings
from benches.peers import PEERS
from benches.shapes import SHORT, Shape

Record = dict[str, Any]
BY_NAME: dict[str, Column] = {c.name: c for c in (*COLUMNS, LOOP, *PEERS)}
PEER_NAMES = tuple(column.name for column in PEERS)


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
    if shape.kind not in SHORT:
        floor, bound = ceilings.floor(shape, column.formula)
        found["gflops"] = shape.operations(column.formula) / ms["median"] / 1e6
        found |= {"floor_ms": floor, "bound": bound, "share": floor / ms["median"]}
    return found


def wrong(records: Iterable[Record]) -> list[str]:
    """A sentence for every column whose numbers are wrong."""
    return [
        f"{record['shape']} at {record['threads']} threads: {column['wrong']}"
        for record in records
        for column in record["columns"].values()
        if "wrong" in column
    ]
