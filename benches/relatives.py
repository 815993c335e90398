"""The sections on the LSTM beside the GRU, and on memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benches import derive
from benches.goals import by_shape
from benches.shapes import SHORT, Shape
from benches.tables import bold, table, threads

Record = Mapping[str, Any]
PAIRS = (("torch_lstm", "torch_gru"), ("lstm", "gru_after"), ("lstm", "gru_before"))
"""Which LSTM is divided by which GRU."""


def lstm(runs: Sequence[Record], memory: Sequence[Record]) -> str:
    """LSTM ÷ GRU: is the GRU the cheaper one?"""
    shapes = [s["shape"] for run in runs[:1] for s in run["shapes"] if Shape.read(s["shape"]).kind not in SHORT]
    if not shapes:
        return ""
    peaks = {(r["shape"], r["column"]): r["step_mb"] for r in memory if "step_mb" in r}
    by_threads = [by_shape(run) for run in runs]
    rows = []
    for shape in shapes:
        cells = [_time(found.get(shape, {}), *pair) for pair in PAIRS for found in by_threads]
        rows.append([shape, *(_text(ratio) for ratio in [*cells, *(_memory(peaks, shape, *pair) for pair in PAIRS)])])
    names = [f"{derive.BY_NAME[one].title} ÷ {derive.BY_NAME[other].title}" for one, other in PAIRS]
    head = ["B,T,I,H", *(f"{name}, {threads(run['threads'])}" for name in names for run in runs)]
    return f"""## LSTM ÷ GRU

The literature calls the GRU the cheaper one: three groups of weights instead of four, so 1.33 by arithmetic. Time of
the LSTM ÷ time of the GRU, then the same of the peak memory that a call adds; in bold where the claim fails.

{table([*head, *(f"memory, {name}" for name in names)], rows)}

{_verdict(shapes, by_threads, peaks)}"""


def _time(columns: Mapping[str, Record], one: str, other: str) -> float | None:
    if not all("ms" in columns.get(name, {}) for name in (one, other)):
        return None
    return float(columns[one]["ms"]["median"] / columns[other]["ms"]["median"])


def _memory(peaks: Mapping[tuple[str, str], float], shape: str, one: str, other: str) -> float | None:
    least = 0.5  # megabytes: less is a few pages here or there
    if min(peaks.get((shape, name), 0) for name in (one, other)) < least:
        return None
    return peaks[shape, one] / peaks[shape, other]


def _text(ratio: float | None) -> str:
    return "–" if ratio is None else bold(f"{ratio:.2f}", ratio < 1)


def _verdict(shapes: Sequence[str], runs: Sequence[Mapping[str, Any]], peaks: Mapping[tuple[str, str], float]) -> str:
    lines = []
    for one, other in PAIRS:
        times = [t for shape in shapes for found in runs if (t := _time(found.get(shape, {}), one, other)) is not None]
        sizes = [m for shape in shapes if (m := _memory(peaks, shape, one, other)) is not None]
        names = f"{derive.BY_NAME[one].title} beside {derive.BY_NAME[other].title}"
        parts = [*_counted("time", times), *_counted("memory", sizes)]
        lines.append(f"- {names}: {'; '.join(parts)}.")
    return "\n".join(lines)


def _counted(what: str, ratios: Sequence[float]) -> Iterator[str]:
    if ratios:
        failed = sum(ratio < 1 for ratio in ratios)
        middle = sorted(ratios)[len(ratios) // 2]
        yield f"the claim on {what} fails in {failed} of {len(ratios)}, the middle ratio is {middle:.2f}"


def memory(found: Sequence[Record]) -> str:
    """Peak memory in training beside torch's."""
    peaks = {(r["shape"], r["column"]): r["step_mb"] for r in found if "step_mb" in r}
    shapes = [shape for shape in dict.fromkeys(r["shape"] for r in found) if shape and Shape.read(shape).training]
    names = [name for name in derive.BY_NAME if any((shape, name) in peaks for shape in shapes)]
    if not names:
        return ""
    rows = [[shape, *(_megabytes(peaks, shape, name) for name in names)] for shape in shapes]
    return f"""## Memory in training

What a training step adds at its peak to a process that holds the layer and its input, in MB, one thread; bold where it
is no more than torch's.

{table(["B,T,I,H", *(derive.BY_NAME[name].title for name in names)], rows)}"""


def _megabytes(peaks: Mapping[tuple[str, str], float], shape: str, name: str) -> str:
    if (shape, name) not in peaks:
        return "–"
    rival = peaks.get((shape, derive.BY_NAME[name].rival))
    own = peaks[shape, name]
    return bold(f"{own:.1f}", rival is not None and own <= rival)
