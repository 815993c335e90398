"""Power and tuning on figures that are made: what has learnt, which setting is the best, when a grid grows."""

from __future__ import annotations

from pathlib import Path

import pytest

import gatewise as gw
from gatewise.study.trial.plan import GOALS, KEEPING, PLAIN, Network, Scale, Setting, made, starts_of
from gatewise.study.trial.power import must_leave, must_solve
from gatewise.study.trial.resting import basis
from gatewise.study.trial.runs import Fit, Job, Runs
from gatewise.study.trial.tuning import at_edge, best, grid

SCALE = Scale(
    name="made", seeds=4, rates=(3e-3, 1e-2, 3e-2), units=4, spans=(4,), shares=(1.0,), steps=100, timing_rounds=1
)
OPTIONS = {"max_steps": 100, "hidden_size": 4, "span": 4}
ADDING, DIGITS = (made(task, gw.cells.lstm, OPTIONS) for task in ("adding", "digits"))
TRANSLATE = made("translate", gw.cells.lstm, OPTIONS)


def runs_with(folder: Path, network: Network, values: list[float], guessing: float, broke: bool = False) -> Runs:
    """Finished fits with these validation figures, a seed each, at the middle of the grid."""
    runs = Runs(folder, SCALE, None, 1)
    runs.seeds[network] = len(values)
    worst = 0.0 if network.task == "translate" else 1e3
    for setting in grid(SCALE, network):
        runs.fits[Job(network, setting, 0)] = Fit(worst, worst, guessing, 100, [1.0], [worst], False)
    for seed, value in enumerate(values):
        runs.fits[Job(network, Setting(1e-2, "chrono"), seed)] = Fit(
            value, value, guessing, 100, [1.0], [value], broke and seed == 0
        )
    return runs


@pytest.mark.parametrize(
    ("network", "guessing", "values", "solves", "leaves"),
    [
        (ADDING, 0.17, [0.001, 0.001, 0.001, 0.17], True, True),
        (ADDING, 0.17, [0.001, 0.001, 0.17, 0.17], False, False),
        (ADDING, 0.17, [0.02, 0.02, 0.02, 0.02], False, True),
        (ADDING, 0.17, [0.1795, 0.1795, 0.179, 0.179], False, False),
        (DIGITS, 90.0, [5.0, 9.0, 9.0, 9.0], True, True),
        (TRANSLATE, 20.0, [90.0, 85.0, 81.0, 40.0], True, True),
        (TRANSLATE, 20.0, [70.0, 70.0, 70.0, 20.0], False, True),
        (TRANSLATE, 20.0, [30.0, 30.0, 30.0, 30.0], False, False),
    ],
)
def test_a_verdict_needs_networks_that_have_learnt(
    tmp_path: Path, network: Network, guessing: float, values: list[float], solves: bool, leaves: bool
) -> None:
    runs = runs_with(tmp_path, network, values, guessing)
    assert runs.setting(network) == Setting(1e-2, "chrono")
    for power, enough in ((must_solve(runs, [network]), solves), (must_leave(runs, [network]), leaves)):
        assert power.enough == enough
        assert power.judged("fails") == ("fails" if enough else "too short to tell")
        assert ("within 100 steps" in power.sentence()) != enough
        change = basis(runs, [network], power, "0.01", "more seeds").change
        assert change == "more seeds" if enough else change.startswith("a budget in which they learn: lstm (chrono")


def test_a_training_that_broke_down_has_not_learnt(tmp_path: Path) -> None:
    runs = runs_with(tmp_path, ADDING, [0.001], 0.17, broke=True)
    assert not must_solve(runs, [ADDING]).enough
    assert not must_leave(runs, [ADDING]).enough


def test_powers_add_up(tmp_path: Path) -> None:
    good, bad = (runs_with(tmp_path, ADDING, [value], 0.17) for value in (0.001, 0.17))
    both = must_solve(good, [ADDING]) + must_solve(bad, [ADDING], ["a name"])
    assert len(both.learnt) == 2
    assert len(both.missing) == 1
    assert both.missing[0].startswith("a name (chrono, 0.01): adding, span 4 solved by 0 of 1 seeds")


def test_of_settings_that_solve_the_task_the_fastest_is_the_best() -> None:
    slow, fast, lost = (Setting(rate, "torch") for rate in SCALE.rates)
    tried = {slow: (0.001, 90), fast: (0.004, 20), lost: (0.006, 10)}
    assert best(ADDING, tried) == fast
    assert best(DIGITS, tried) == slow  # a training of digits does not stop: the figure decides


def test_ties_do_not_depend_on_what_was_fitted_first() -> None:
    settings = grid(SCALE, ADDING)
    tried = dict.fromkeys(settings, (0.1, 100))
    assert best(ADDING, tried) == best(ADDING, dict(reversed(tried.items()))) == settings[0]


def test_a_grid_grows_where_the_best_rate_stands_at_its_edge() -> None:
    tried = dict.fromkeys(grid(SCALE, ADDING), (0.1, 100))
    assert at_edge(Setting(1e-2, "chrono"), tried) == []
    assert at_edge(Setting(3e-2, "chrono"), tried) == [Setting(1e-1, "chrono")]
    assert at_edge(Setting(3e-3, "torch"), tried) == [Setting(1e-3, "torch")]
    grown = {**tried, Setting(1e-1, "chrono"): (0.05, 100), Setting(3e-1, "chrono"): (0.04, 100)}
    assert at_edge(Setting(3e-1, "chrono"), grown) == []  # the ladder ends
    assert at_edge(Setting(3e-2, "torch"), grown) == [Setting(1e-1, "torch")]


def test_every_cell_may_start_in_all_ways_that_it_has_gates_for() -> None:
    assert starts_of(gw.cells.gru) == starts_of(gw.cells.lstm) == starts_of(gw.cells.gru.pin(r=1)) == KEEPING
    assert starts_of(gw.cells.rnn) == starts_of(gw.cells.gru.pin(z=0)) == PLAIN


def test_training_stops_where_a_task_is_solved_by_yes_or_no() -> None:
    assert ADDING.stops
    assert not DIGITS.stops
    assert dict(ADDING.options)["target"] == GOALS["adding"].solved
    assert not made("adding", gw.cells.lstm, {**OPTIONS, "target": None}).stops
