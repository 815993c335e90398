"""What a verdict needs before it may be given: networks that have learnt.

That a cell does not learn a task in some budget says nothing of the cell where no setting of it was seen to learn the
task in that budget. So each claim names the networks that must have learnt, and where one has not, its verdict is *too
short to tell*, with what was missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatewise.study.statistics import Verdict
from gatewise.study.trial.plan import Network, label
from gatewise.study.trial.runs import Fit, Runs
from gatewise.tasks.registry import task_named

MOST = 0.75
"""The share of seeds that must have learnt, and the part of the way from guessing to the solution that a network must
have gone to have learnt anything."""


@dataclass(frozen=True)
class Learnt:
    """How far a network came within its budget, at its known-good setting: the best one that validation found."""

    cell: str
    task: str
    metric: str
    setting: str
    guessing: float
    """The figure of the best naive answer."""
    solved: float
    """The validation figure at which the task counts as solved."""
    scores: list[float]
    solving: int
    """Seeds that solved the task."""
    leaving: int
    """Seeds that went three quarters of the way from guessing to the solved figure."""
    steps: int
    """The budget."""

    @property
    def has_solved(self) -> bool:
        return self.solving >= MOST * len(self.scores)

    @property
    def has_left(self) -> bool:
        return self.leaving >= MOST * len(self.scores)

    def words(self) -> str:
        """How it came out, in words."""
        mean = sum(self.scores) / len(self.scores)
        return (
            f"{self.cell} ({self.setting}): {self.task} solved by {self.solving} of {len(self.scores)} seeds within "
            f"{self.steps} steps, {self.metric} {mean:.3g} where guessing has {self.guessing:.3g} and solved is "
            f"{self.solved:g}"
        )


@dataclass(frozen=True)
class Power:
    """Whether a verdict may be given: what must have learnt, and what of it has not."""

    learnt: list[Learnt]
    missing: list[str]

    @property
    def enough(self) -> bool:
        return not self.missing

    def judged(self, verdict: Verdict) -> Verdict:
        """The verdict, where there is power for one."""
        return verdict if self.enough else "too short to tell"

    def sentence(self) -> str:
        """What was missing; empty where nothing was."""
        return "" if self.enough else f"Missing: {'; '.join(self.missing)}. "

    def __add__(self, other: Power) -> Power:
        return Power(self.learnt + other.learnt, self.missing + other.missing)


def learnt(runs: Runs, network: Network, cell: str = "") -> Learnt:
    """How far a network came; ``cell`` is what it is called, its cell's name where nothing is said."""
    kind, goal, fits = task_named(network.task), network.goal, runs.of(network)
    sign = -1 if kind.higher_is_better else 1
    enough = [sign * fit.validation <= sign * goal.solved and not fit.broke for fit in fits]
    return Learnt(
        cell or network.cell.name,
        label(network),
        kind.metric,
        str(runs.setting(network)),
        fits[0].guessing,
        goal.solved,
        [fit.score for fit in fits],
        sum(enough),
        sum(_left(fit, goal.solved) for fit in fits),
        dict(network.options)["max_steps"],
    )


def _left(fit: Fit, solved: float) -> bool:
    """Whether a network went most of the way from guessing to the solved figure, whichever direction is better."""
    way = fit.guessing - solved
    return not fit.broke and (fit.guessing - fit.validation) * way >= MOST * way * way


def must_solve(runs: Runs, networks: Sequence[Network], names: Sequence[str] = ()) -> Power:
    """Each of these networks must have solved its task; ``names`` as for ``learnt``."""
    found = _each(runs, networks, names)
    return Power(found, [one.words() for one in found if not one.has_solved])


def must_leave(runs: Runs, networks: Sequence[Network], names: Sequence[str] = ()) -> Power:
    """Each of these networks must have gone most of the way: what is known to learn a task, though not to the end."""
    found = _each(runs, networks, names)
    return Power(found, [one.words() for one in found if not one.has_left])


def _each(runs: Runs, networks: Sequence[Network], names: Sequence[str]) -> list[Learnt]:
    return [learnt(runs, one, name) for one, name in zip(networks, names or [""] * len(networks), strict=True)]
