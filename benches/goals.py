"""What is wanted of each shape, and what was reached. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benches.shapes import Shape

Record = Mapping[str, Any]
TORCH, PEER, FLOOR = "÷ torch", "÷ best peer", "× floor"
FORMS = {"gru_after": "after", "gru_before": "before"}
"""The columns that are held against goals: where the reset gate acts."""


@dataclass(frozen=True)
class Goal:
    """For 1 and 2 threads: time of ``torch.nn.GRU`` and of the best peer ÷ own time; own time in multiples of the
    floor."""

    torch: tuple[float, float]
    peer: tuple[float, float]
    floor: float


GOALS = {
    "step 1,1,64,96": Goal((7, 7), (1.5, 1.5), 2),
    "step 1,1,128,256": Goal((3, 4), (1.1, 1.3), 1.15),
    "1,100,128,256": Goal((2.8, 4.2), (1.05, 1.15), 1.15),
    "1,1000,40,512": Goal((1.6, 3), (1.0, 1.1), 1.1),
    "8,200,128,256": Goal((3.2, 4.5), (1.0, 1.05), 1.2),
    "32,100,256,512": Goal((2.2, 2.8), (0.93, 1.0), 1.15),
    "64,50,512,1024": Goal((2.2, 3.1), (0.9, 0.97), 1.15),
    "256,24,1,128": Goal((2.5, 3), (1.1, 1.2), 1.3),
    "train 32,100,128,256": Goal((2.3, 2.8), (1.5, 1.8), 1.4),
    "train 64,24,1,64": Goal((4, 4), (1.3, 1.3), 1.8),
    "train 32,200,256,512": Goal((2.0, 2.5), (1.2, 1.5), 1.4),
    "train 64,50,650,650": Goal((1.7, 2.0), (1.1, 1.4), 1.4),
    "train 128,35,200,200": Goal((1.9, 2.5), (1.15, 1.6), 1.4),
}


def before_goal(shape: Shape) -> float | None:
    """The largest time of reset-before ÷ reset-after that is wanted; batches between 1 and 8 have no goal."""
    return 1.1 if shape.batch >= 8 else 1.4 if shape.batch == 1 else None


@dataclass(frozen=True)
class Reached:
    """One figure beside its goal; ``least`` says whether the goal is a least or a largest value.

    ``on_floor`` is the ratio that a layer standing on the floor itself would have.
    """

    value: float
    goal: float
    least: bool = True
    whom: str = ""
    disturbed: bool = False
    on_floor: float = float("inf")

    @property
    def beyond(self) -> bool:
        """Whether no program in float32 reaches the goal on this machine."""
        return self.least and self.on_floor < self.goal

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.least else self.value <= self.goal

    @property
    def missing(self) -> float:
        """By how much of the goal it is missed."""
        return abs(self.value - self.goal) / self.goal


def by_shape(run: Record) -> dict[str, Record]:
    """The columns of each shape of one thread setting."""
    return {record["shape"]: record["columns"] for record in run["shapes"]}


def fastest_peer(columns: Mapping[str, Record], names: Iterable[str]) -> str | None:
    """The quickest of the named columns that have a time."""
    timed = [name for name in names if "ms" in columns.get(name, {})]
    return min(timed, key=lambda name: columns[name]["ms"]["median"], default=None)


def reached(
    columns: Mapping[str, Record], form: str, goal: Goal, index: int, peers: Iterable[str]
) -> dict[str, Reached]:
    """What was reached of each kind of goal, as far as it was measured."""
    if "ms" not in columns.get(form, {}):
        return {}
    own, found = columns[form], {}
    rivals = {TORCH: ("torch_gru", goal.torch), PEER: (fastest_peer(columns, peers), goal.peer)}
    for kind, (name, wanted) in rivals.items():
        if name is not None and "ms" in columns.get(name, {}):
            ms = columns[name]["ms"]
            lost = max(ms["disturbed"], own["ms"]["disturbed"]) == 1
            ratio = ms["median"] / own["ms"]["median"]
            found[kind] = Reached(ratio, wanted[index], True, name, lost, ratio / own["share"])
    found[FLOOR] = Reached(1 / own["share"], goal.floor, False, "", own["ms"]["disturbed"] == 1)
    return found


@dataclass(frozen=True)
class Line:
    """A shape and a form: for each thread setting what was reached of each kind of goal."""

    shape: str
    form: str
    figures: Mapping[int, Mapping[str, Reached]]


def judge(runs: Iterable[Record], peers: Iterable[str]) -> list[Line]:
    """Every measured shape with a goal, in both forms."""
    by_threads = {run["threads"]: by_shape(run) for run in runs if run["threads"] in (1, 2)}
    names, lines = list(peers), []
    for shape, goal in GOALS.items():
        for form in FORMS:
            figures = {
                threads: reached(found.get(shape, {}), form, goal, threads - 1, names)
                for threads, found in by_threads.items()
            }
            if any(figures.values()):
                lines.append(Line(shape, form, figures))
    return lines


def of_kind(lines: Iterable[Line], kind: str) -> list[Reached]:
    """All figures of a kind in whose times other processes had no part."""
    found = (kinds[kind] for line in lines for kinds in line.figures.values() if kind in kinds)
    return [figure for figure in found if not figure.disturbed]
