"""On what the verdict of a claim about trained networks rests, in words and in the table of what has learnt."""

from __future__ import annotations

from collections.abc import Sequence

from gatewise.study.page import Block, table
from gatewise.study.trial.plan import Network, label
from gatewise.study.trial.power import Power
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import Basis


def basis(runs: Runs, networks: Sequence[Network], power: Power, margin: str, change: str) -> Basis:
    """The basis of a verdict. ``change`` says what would change it where there was power for it."""
    budgets = sorted({dict(n.options)["max_steps"] for n in networks})
    seeds = sorted({runs.seeds[n] for n in networks})
    stops = ", less where the task is solved before" if any(n.stops for n in networks) else ""
    naive: dict[str, float] = {label(n): runs.of(n)[0].guessing for n in networks}
    shown = list(naive.items())
    return Basis(
        margin,
        f"{_either(budgets)} training steps{stops}; {_either(seeds)} seeds; "
        f"{_either(sorted({dict(n.options)['hidden_size'] for n in networks}))} units",
        tuning(runs, networks),
        "; ".join(f"{name}: {value:.3g}" for name, value in shown),
        change if power.enough else "a budget in which they learn: " + "; ".join(power.missing),
    )


def tuning(runs: Runs, networks: Sequence[Network]) -> str:
    """What every network tried, and where the best rate stood at the edge in spite of the extensions."""
    starts = sorted({start for n in networks for start in n.starts})
    rates = sorted({s.rate for n in networks for s in runs.tried(n)})
    edge = [n for n in networks if runs.beyond(n)]
    words = (
        f"learning rate (of {', '.join(f'{rate:g}' for rate in rates)}) and start (of {', '.join(starts)}, those that "
        "the cell can have), alike for all cells, by the validation of the first seed"
    )
    return words + (f"; for {len(edge)} of {len(networks)} networks the best rate is at the edge" if edge else "")


def settled(power: Power) -> list[Block]:
    """The table of what has learnt; nothing where nothing had to."""
    if not power.learnt:
        return []
    rows = [
        [one.cell, one.task, one.setting, one.guessing, one.solved, f"{one.solving} of {len(one.scores)}"]
        for one in power.learnt
    ]
    head = ["network", "task", "start, rate", "guessing", "solved from", "seeds that solved it"]
    return [table(head, rows)]


def _either(values: Sequence[int]) -> str:
    return " or ".join(map(str, values))
