"""The claims about accuracy: C2 GRU beside LSTM, C3 the notes' figure, C6 what each gate is for, C9 distance.

Each function judges one claim from finished fits, and stands beside the one that says which networks it needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gatewise.compiler import Cell
from gatewise.study.page import bars_and_points, lines, plot, table
from gatewise.study.statistics import all_of, interval
from gatewise.study.trial.plan import (
    CELLS,
    MARGINS,
    Network,
    Scale,
    adding,
    digits,
    label,
    parameters,
    pinned,
    several,
    sized,
    wholly,
)
from gatewise.study.trial.power import must_leave, must_solve
from gatewise.study.trial.resting import basis, settled
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import Section, alike, beside, higher, reach, spread, turned
from gatewise.tasks.registry import task_named

LARGE = 60_000
"""Examples from which on a data set counts as large in C2b: those of MNIST, the smallest that papers call so."""
IMAGES = 1200
"""Training images of the digits."""
FACTOR = 1.5
"""How much larger an error must be in C6, where both are small: a difference that is a share of the error itself."""


def about_as_well_needs(s: Scale) -> list[Network]:
    return [n for cell in CELLS[:2] for n in several(s, cell, s.spans[0])]


def about_as_well(runs: Runs) -> Section:
    """C2a."""
    s = runs.scale
    pairs = list(zip(several(s, "gru", s.spans[0]), several(s, "lstm", s.spans[0]), strict=True))
    powers = [must_solve(runs, pair) for pair in pairs]
    judged = [alike(runs.scores(a), runs.scores(b), MARGINS[a.task]) for a, b in pairs]
    verdicts = [power.judged(verdict) for power, (verdict, _) in zip(powers, judged, strict=True)]
    rows = [[*row, verdict] for row, verdict in zip(_pair_rows(runs, pairs), verdicts, strict=True)]
    equal = [str(row[0]) for row in rows if row[-1] == "holds"]
    power = sum(powers[1:], powers[0])
    decisive = {label(a): pair for (a, _), (_, pair) in zip(pairs, judged, strict=True) if pair.relation != "equal"}
    change = "; ".join(f"in {name}: {turned(pair)}" for name, pair in decisive.items())
    return Section(
        "C2a",
        "A GRU does about as well as an LSTM on many tasks.",
        f"Both with the same number of parameters on {len(pairs)} tasks.",
        "Holds where the 90 % interval of the paired difference lies inside the margin on every task; fails where one "
        "cell is better by the margin, and certainly so, on any that both have learnt.",
        all_of(verdicts),
        f"Equal within the margin on {len(equal)} of {len(rows)} tasks"
        + (f": {'; '.join(equal)}. " if equal else ". ")
        + power.sentence().strip(),
        {"verdicts": verdicts},
        [table([*HEAD, "about as well"], rows), *settled(power)],
        basis(
            runs,
            [n for pair in pairs for n in pair],
            power,
            "; ".join(f"{label(a)}: ± {MARGINS[a.task]:g} {task_named(a.task).metric}" for a, _ in pairs),
            change or "one task on which they differ by the margin",
        ),
    )


def _pair_rows(runs: Runs, pairs: Sequence[tuple[Network, Network]]) -> list[list[object]]:
    rows: list[list[object]] = []
    for a, b in pairs:
        _, pair = alike(runs.scores(a), runs.scores(b), MARGINS[a.task])
        kind = task_named(a.task)
        metric = kind.metric + (", higher is better" if kind.higher_is_better else "")
        both = [spread(runs.scores(a)), spread(runs.scores(b))]
        rows.append([label(a), metric, *both, reach(pair), pair.margin, beside(pair)])
    return rows


HEAD = ["task", "metric", "GRU", "LSTM", "GRU − LSTM", "margin ±", "GRU's figure is"]


def large_data_needs(s: Scale) -> list[Network]:
    return [digits(s, cell, share) for cell in CELLS[:2] for share in s.shares]


def large_data(runs: Runs) -> Section:
    """C2b. The digits are no large data set: a verdict needs one, so that this shows the direction alone."""
    s = runs.scale
    pairs = [(digits(s, "gru", share), digits(s, "lstm", share)) for share in s.shares]
    a, b = pairs[-1]
    power = must_solve(runs, [a, b])
    seen = round(IMAGES * s.shares[-1])
    if seen < LARGE:
        power.missing.append(f"a data set of {LARGE:,} examples at least, where the digits have {seen:,} of 8 × 8")
    verdict, pair = higher(runs.scores(a), runs.scores(b), MARGINS["digits"])
    series = {
        cell: _sweep(runs, [digits(s, cell, x) for x in s.shares], [100 * x for x in s.shares]) for cell in CELLS[:2]
    }
    return Section(
        "C2b",
        "An LSTM does better than a GRU on large data sets.",
        f"Digits, read four pixels a step, with a part of the {IMAGES:,} training images; equal parameters.",
        f"Holds where the LSTM's error is lower by the margin with all of at least {LARGE:,} examples; fails where "
        "they are equal or the GRU's is.",
        power.judged(verdict),
        f"With all images the GRU's error is {beside(pair)} (difference {pair.difference} points). {power.sentence()}",
        {"difference": vars(pair.difference), "p": pair.p_value},
        [
            plot(lines(series, "training images seen (%)", "wrong answers (%)", log_x=True), "error over data seen"),
            table(HEAD, _pair_rows(runs, pairs)),
            *settled(power),
        ],
        basis(runs, [a, b], power, f"{MARGINS['digits']:g} points of wrong answers", turned(pair)),
    )


def long_dependencies_needs(s: Scale) -> list[Network]:
    return [adding(s, cell, span) for cell in CELLS[:2] for span in s.spans]


def long_dependencies(runs: Runs) -> Section:
    """C2c."""
    s = runs.scale
    pairs = [(adding(s, "gru", span), adding(s, "lstm", span)) for span in s.spans]
    a, b = pairs[-1]
    power = must_solve(runs, [a, b])
    verdict, pair = higher(runs.scores(a), runs.scores(b), MARGINS["adding"])
    return Section(
        "C2c",
        "An LSTM does better than a GRU where long dependencies are critical.",
        f"The adding problem over {', '.join(map(str, s.spans))} steps; equal parameters.",
        "Holds where the LSTM's error at the longest span is lower by the margin; fails where they are equal or the "
        "GRU's is. Both must have solved it: a network that has not learnt says nothing of its cell.",
        power.judged(verdict),
        f"Over {s.spans[-1]} steps the GRU's error is {beside(pair)} (difference {pair.difference}). "
        f"{power.sentence()}",
        {"difference": vars(pair.difference), "p": pair.p_value},
        [table(HEAD, _pair_rows(runs, pairs)), *settled(power)],
        basis(runs, [a, b], power, f"{MARGINS['adding']:g} of mean squared error", turned(pair)),
    )


def _sweep(runs: Runs, networks: list[Network], x: list[float]) -> dict[str, Sequence[float]]:
    """The mean over the seeds, between the lowest seed and the highest: on a logarithmic axis an interval that reaches
    below zero has no place."""
    scores = [runs.scores(n) for n in networks]
    means = [interval(values).mean for values in scores]
    return {"x": x, "y": means, "low": list(map(min, scores)), "high": list(map(max, scores))}


def the_figure_needs(s: Scale) -> list[Network]:
    return [sized(s, cell) for cell in CELLS]


def the_figure(runs: Runs) -> Section:
    """C3."""
    s = runs.scale
    networks = [sized(s, cell) for cell in CELLS]
    power = must_solve(runs, networks[:2])
    counts = [parameters("digits", n.cell, s.units, {"span": 16}) for n in networks]
    right = [[100.0 - score for score in runs.scores(n)] for n in networks]
    intervals = [interval(values) for values in right]
    margin = MARGINS["digits"]
    verdict, pair = alike(right[0], right[1], margin)
    rows = [
        [n.cell.name, s.units, count, spread(values)] for n, count, values in zip(networks, counts, right, strict=True)
    ]
    errors = [i.high - i.mean for i in intervals]
    figure = bars_and_points(
        [f"{n.cell.name}, {s.units} units" for n in networks],
        [float(c) for c in counts],
        [i.mean for i in intervals],
        errors,
        ("parameters", "right answers (%)"),
    )
    return Section(
        "C3",
        "Fewer parameters for the same accuracy: the notes' figure of GRU beside LSTM.",
        f"Digits with {s.units} units for each cell, so that the number of parameters differs.",
        f"Holds where GRU and LSTM answer equally often right within ± {margin:g} points, the GRU with fewer "
        "parameters.",
        power.judged(verdict),
        f"The GRU has {counts[0] / counts[1]:.0%} of the LSTM's parameters; its share of right answers is "
        f"{beside(pair)} (difference {pair.difference} points). {power.sentence()}",
        {"parameters": counts, "right": [vars(i) for i in intervals]},
        [
            plot(figure, "parameters as bars, right answers as points"),
            table(["cell", "units", "parameters", "right %"], rows),
            *settled(power),
        ],
        basis(runs, networks[:2], power, f"± {margin:g} points of right answers", turned(pair)),
    )


def gates_serve_needs(s: Scale) -> list[Network]:
    return [make for cell in pinned(s).values() for make in _gates(s, cell).values()]


def _gates(s: Scale, cell: Cell) -> dict[str, Network]:
    """A GRU, or one with a gate fixed, where it is tried out: by the place's name."""
    short, long = s.spans[0], s.spans[-1]
    return {"short": wholly(s, cell, short), "long": adding(s, cell, long), "digits": digits(s, cell)}


def gates_serve(runs: Runs) -> Section:
    """C6."""
    s = runs.scale
    made = {name: _gates(s, cell) for name, cell in pinned(s).items()}
    by = {(name, place): runs.scores(n) for name, places in made.items() for place, n in places.items()}
    margin = MARGINS["adding"]
    power = must_solve(runs, [made["gru"]["short"], made["gru"]["long"]])
    power += must_leave(runs, [made["r = 1"]["short"], made["z = 0"]["short"]], ["r = 1", "z = 0"])
    on_long, long_pair = higher(by["z = 0", "long"], by["r = 1", "long"], margin)
    logs = {name: [math.log(max(v, 1e-12)) for v in by[name, "short"]] for name in ("r = 1", "z = 0")}
    on_short, short_pair = higher(logs["r = 1"], logs["z = 0"], math.log(FACTOR))
    titles = {place: label(n) for place, n in made["gru"].items()}
    rows = [[name, *(spread(by[name, place]) for place in titles)] for name in made]
    times = math.exp(short_pair.difference.mean)
    return Section(
        "C6",
        "The reset gate serves short-term dependencies, the update gate long-term ones.",
        "A GRU retrained with the reset gate fixed open (r = 1), then with the update gate fixed to renew (z = 0), "
        "with as many parameters as before. On the short span training goes on to the end of the budget, though the "
        "task is solved before, so that the error that remains can differ.",
        f"Holds where fixing z costs at least {margin:g} more than fixing r on the long span, and on the short one the "
        f"error with r fixed is at least {FACTOR:g} times that with z fixed; fails where either is not so.",
        power.judged(all_of([on_long, on_short])),
        f"Long span: fixing z costs {long_pair.difference} more than fixing r ({on_long}). Short span: the error with "
        f"r fixed is {times:.3g} times that with z fixed ({on_short}). {power.sentence()}",
        {"long": vars(long_pair.difference), "short, log": vars(short_pair.difference)},
        [table(["gate fixed", *titles.values()], rows), *settled(power)],
        basis(
            runs,
            gates_serve_needs(s),
            power,
            f"{margin:g} of mean squared error on the long span; a factor of {FACTOR:g} on the short one, where errors "
            f"are of the size of {interval(by['gru', 'short']).mean:.2g}",
            f"long span: {turned(long_pair)}; short span, in logarithms: {turned(short_pair)}",
        ),
    )


def distance_needs(s: Scale) -> list[Network]:
    return [adding(s, cell, span) for cell in CELLS for span in s.spans]


def distance(runs: Runs) -> Section:
    """C9. That the plain RNN does not learn is the claim itself, so it must have learnt the shortest span."""
    s = runs.scale
    near, far = s.spans[0], s.spans[-1]
    margin = MARGINS["adding"]
    gated = [adding(s, cell, far) for cell in CELLS[:2]]
    power = must_solve(runs, gated) + must_leave(runs, [adding(s, "rnn", near)])
    plain = runs.scores(adding(s, "rnn", far))
    compared = {cell: higher(plain, runs.scores(adding(s, cell, far)), margin) for cell in CELLS[:2]}
    verdict = all_of([v for v, _ in compared.values()])
    spans = [float(x) for x in s.spans]
    series = {cell: _sweep(runs, [adding(s, cell, span) for span in s.spans], spans) for cell in CELLS}
    rows = [[cell, *(spread(runs.scores(adding(s, cell, span))) for span in s.spans)] for cell in CELLS]
    words = "; ".join(
        f"the plain RNN's error less the {cell}'s is {p.difference} ({v})" for cell, (v, p) in compared.items()
    )
    return Section(
        "C9",
        "Gated cells capture dependencies over large distances better than plain RNNs.",
        f"The adding problem over {', '.join(map(str, s.spans))} steps; equal parameters.",
        f"Holds where both gated cells beat the plain RNN at {far} steps by {margin:g}; fails where one does not. The "
        f"gated cells must have solved it there, and the plain RNN must have learnt it over {near} steps.",
        power.judged(verdict),
        f"Over {far} steps {words}. {power.sentence()}",
        {cell: vars(p.difference) for cell, (_, p) in compared.items()},
        [
            plot(lines(series, "span (steps)", "mean squared error", log_x=True, log_y=True), "error over span"),
            table(["cell", *(f"{span} steps" for span in s.spans)], rows),
            *settled(power),
        ],
        basis(
            runs,
            [adding(s, cell, far) for cell in CELLS],
            power,
            f"{margin:g} of mean squared error",
            "; ".join(f"beside the {cell}: {turned(p)}" for cell, (_, p) in compared.items()),
        ),
    )
