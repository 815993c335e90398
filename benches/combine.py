"""Figures of several runs in one report: the rows measured anew take the place of the old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benches import derive
from benches.floor import Ceilings
from benches.shapes import CALL_SHAPE, INFERENCE_SHAPES, SHORT_SHAPES, STEP_SHAPES, TRAIN_SHAPES

Record = dict[str, Any]
ORDER = [str(shape) for shape in (CALL_SHAPE, *STEP_SHAPES, *INFERENCE_SHAPES, *TRAIN_SHAPES, *SHORT_SHAPES)]


def combine(old: Record, new: Record) -> Record:
    """The new report with what only the old one has.

    A row is measured in one process and stays whole; floors are those of the best ceilings of all runs.
    """
    runs = {run["threads"]: run for run in old["runs"]}
    for run in new["runs"]:
        runs[run["threads"]] = _run(runs[run["threads"]], run) if run["threads"] in runs else run
    memory = _newest([*old["memory"], *new["memory"]], lambda r: (r["shape"], r["column"]))
    peers = new["peers"] if new["peers"]["measured"] else old.get("peers", new["peers"])
    several = {"command": f"{new['command']} (the last of several)", "quick": old["quick"] or new["quick"]}
    return {**new, **several, "peers": peers, "runs": [runs[k] for k in sorted(runs)], "memory": memory}


def _run(old: Record, new: Record) -> Record:
    ceilings = _ceilings(Ceilings.read(old["ceilings"]), Ceilings.read(new["ceilings"]))
    shapes = [derive.complete(r, ceilings) for r in _newest([*old["shapes"], *new["shapes"]], lambda r: r["shape"])]
    measured = {record["shape"] for record in shapes}
    left_out = [shape for shape in old["left_out"] + new["left_out"] if shape not in measured]
    return {**new, "ceilings": ceilings.record(), "shapes": shapes, "left_out": left_out}


def _newest(records: Iterable[Record], key: Callable[[Record], Any]) -> list[Record]:
    """The last record of each key, in the order of the tables."""
    found = {key(record): record for record in records}
    return sorted(found.values(), key=lambda r: ORDER.index(r["shape"]) if r["shape"] in ORDER else len(ORDER))


def _ceilings(old: Ceilings, new: Ceilings) -> Ceilings:
    sizes: Mapping[int, float] = {
        size: max(old.gigabytes.get(size, 0.0), new.gigabytes.get(size, 0.0))
        for size in old.gigabytes.keys() | new.gigabytes.keys()
    }
    onednn = [rate for rate in (old.onednn, new.onednn) if rate is not None]
    arithmetic, mm = max(old.multiply_add, new.multiply_add), max(old.mm, new.mm)
    return Ceilings(new.threads, arithmetic, mm, max(onednn, default=None), dict(sizes))
