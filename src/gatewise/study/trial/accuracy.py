"""The claims about accuracy: C2 GRU beside LSTM, C3 the notes' figure, C6 what each gate is for, C9 distance."""

from __future__ import annotations

from collections.abc import Sequence

from gatewise.study.page import bars_and_points, lines, plot, table
from gatewise.study.statistics import all_of, interval
from gatewise.study.trial.plan import CELLS, MARGINS, Network, adding, digits, label, parameters, pinned, several, sized
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import Section, alike, beside, higher, reach, spread
from gatewise.tasks.registry import task_named


def _pair_rows(runs: Runs, pairs: list[tuple[Network, Network]], names: tuple[str, str]) -> list[list[object]]:
    rows: list[list[object]] = []
    for a, b in pairs:
        _, pair = alike(runs.scores(a), runs.scores(b), MARGINS[a.task])
        kind = task_named(a.task)
        metric = kind.metric + (", higher is better" if kind.higher_is_better else "")
        both = [spread(runs.scores(a)), spread(runs.scores(b))]
        rows.append([label(a), metric, *both, reach(pair), pair.margin, pair.relation])
    return rows


HEAD = ["task", "metric", "GRU", "LSTM", "GRU − LSTM", "margin ±", "GRU's figure is"]


def about_as_well(runs: Runs) -> Section:
    """C2a."""
    s = runs.scale
    tasks = list(zip(several(s, "gru", s.spans[0]), several(s, "lstm", s.spans[0]), strict=True))
    verdicts = [alike(runs.scores(a), runs.scores(b), MARGINS[a.task])[0] for a, b in tasks]
    verdict = all_of(verdicts)
    rows = _pair_rows(runs, tasks, ("gru", "lstm"))
    equal = [str(row[0]) for row in rows if row[-1] == "equal"]
    return Section(
        "C2a",
        "A GRU does about as well as an LSTM on many tasks.",
        f"Both with the same number of parameters, {s.seeds} seeds, the best of {len(s.rates)} learning rates for "
        "each.",
        "Holds where the 90 % interval of the paired difference lies inside the margin on every task; fails where one "
        "cell is better by the margin, and certainly so, on any.",
        verdict,
        f"Equal within the margin on {len(equal)} of {len(rows)} tasks" + (f": {'; '.join(equal)}." if equal else "."),
        {"verdicts": verdicts},
        [table(HEAD, rows)],
    )


def large_data(runs: Runs) -> Section:
    """C2b."""
    s = runs.scale
    pairs = [(digits(s, "gru", share), digits(s, "lstm", share)) for share in s.shares]
    a, b = pairs[-1]
    verdict, pair = higher(runs.scores(a), runs.scores(b), MARGINS["digits"])
    series = {
        cell: _sweep(runs, [digits(s, cell, x) for x in s.shares], [100 * x for x in s.shares]) for cell in CELLS[:2]
    }
    return Section(
        "C2b",
        "An LSTM does better than a GRU on large data sets.",
        "Digits, read four pixels a step, with a part of the 1200 training images; equal parameters.",
        "Holds where the LSTM's error is lower by the margin with all images; fails where they are equal or "
        "the GRU's is.",
        verdict,
        f"With all images the GRU's error is {beside(pair)} (difference {pair.difference} points). "
        "1200 images are a small data set: this tests the direction, not the size, of the claim.",
        {"difference": vars(pair.difference), "p": pair.p_value},
        [
            plot(lines(series, "training images seen (%)", "wrong answers (%)", log_x=True), "error over data seen"),
            table(HEAD, _pair_rows(runs, pairs, ("gru", "lstm"))),
        ],
    )


def long_dependencies(runs: Runs) -> Section:
    """C2c."""
    s = runs.scale
    pairs = [(adding(s, "gru", span), adding(s, "lstm", span)) for span in s.spans]
    a, b = pairs[-1]
    verdict, pair = higher(runs.scores(a), runs.scores(b), MARGINS["adding"])
    return Section(
        "C2c",
        "An LSTM does better than a GRU where long dependencies are critical.",
        f"The adding problem over {', '.join(map(str, s.spans))} steps; equal parameters, {s.steps} training steps.",
        "Holds where the LSTM's error at the longest span is lower by the margin; fails where they are equal or the "
        "GRU's is.",
        verdict,
        f"Over {s.spans[-1]} steps, after {s.steps} training steps, the GRU's error is {beside(pair)} (difference "
        f"{pair.difference}).",
        {"difference": vars(pair.difference), "p": pair.p_value},
        [table(HEAD, _pair_rows(runs, pairs, ("gru", "lstm")))],
    )


def _sweep(runs: Runs, networks: list[Network], x: list[float]) -> dict[str, Sequence[float]]:
    """The mean over the seeds, between the lowest seed and the highest: on a logarithmic axis an interval that reaches
    below zero has no place."""
    scores = [runs.scores(n) for n in networks]
    means = [interval(values).mean for values in scores]
    return {"x": x, "y": means, "low": list(map(min, scores)), "high": list(map(max, scores))}


def the_figure(runs: Runs) -> Section:
    """C3."""
    s = runs.scale
    networks = [sized(s, cell) for cell in CELLS]
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
        verdict,
        f"The GRU has {counts[0] / counts[1]:.0%} of the LSTM's parameters; its share of right answers is "
        f"{beside(pair)} (difference {pair.difference} points).",
        {"parameters": counts, "right": [vars(i) for i in intervals]},
        [
            plot(figure, "parameters as bars, right answers as points"),
            table(["cell", "units", "parameters", "right %"], rows),
        ],
    )


def gates_serve(runs: Runs) -> Section:
    """C6."""
    s = runs.scale
    variants = pinned(s)
    short, long = s.spans[0], s.spans[-1]
    by = {
        (name, place): runs.scores(make)
        for name, cell in variants.items()
        for place, make in (
            ("short", adding(s, cell, short)),
            ("long", adding(s, cell, long)),
            ("digits", digits(s, cell)),
        )
    }
    margin = MARGINS["adding"]
    on_long, long_pair = higher(by["z = 0", "long"], by["r = 1", "long"], margin)
    on_short, short_pair = higher(by["r = 1", "short"], by["z = 0", "short"], margin)
    titles = {"short": f"adding, {short} steps", "long": f"adding, {long} steps", "digits": "digits, 16 steps"}
    rows = [[name, *(spread(by[name, place]) for place in titles)] for name in variants]
    return Section(
        "C6",
        "The reset gate serves short-term dependencies, the update gate long-term ones.",
        "A GRU retrained with the reset gate fixed open (r = 1), then with the update gate fixed to renew (z = 0), "
        "with as many parameters as before.",
        f"Holds where fixing z costs at least {margin:g} more than fixing r on the long span, and fixing r at least "
        f"{margin:g} more than fixing z on the short one; fails where either is not so.",
        all_of([on_long, on_short]),
        f"Long span: fixing z costs {long_pair.difference} more than fixing r ({on_long}). Short span: fixing r costs "
        f"{short_pair.difference} more than fixing z ({on_short}).",
        {"long": vars(long_pair.difference), "short": vars(short_pair.difference)},
        [table(["gate fixed", *titles.values()], rows)],
    )


def distance(runs: Runs) -> Section:
    """C9."""
    s = runs.scale
    far = s.spans[-1]
    margin = MARGINS["adding"]
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
        f"The adding problem over {', '.join(map(str, s.spans))} steps; always saying 1 has an error of 0.167. Equal "
        f"parameters, {s.steps} training steps.",
        f"Holds where both gated cells beat the plain RNN at {far} steps by {margin:g}; fails where one does not.",
        verdict,
        f"Over {far} steps, after {s.steps} training steps, {words}.",
        {cell: vars(p.difference) for cell, (_, p) in compared.items()},
        [
            plot(lines(series, "span (steps)", "mean squared error", log_x=True, log_y=True), "error over span"),
            table(["cell", *(f"{span} steps" for span in s.spans)], rows),
        ],
    )
