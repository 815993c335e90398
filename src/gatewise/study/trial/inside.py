"""The claims about the inside: C4 gradients and clipping, C5 what changes slowly, U6 forgetting and selecting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gatewise import cells
from gatewise.study.gradients import norms, of_cell, summarised
from gatewise.study.page import lines, plot, table
from gatewise.study.statistics import Verdict, above, all_of, interval
from gatewise.study.trial.looking import ROWS, looks
from gatewise.study.trial.plan import CELLS, MARGINS, Network, Scale, adding, label, several
from gatewise.study.trial.power import Power, must_leave, must_solve
from gatewise.study.trial.resting import basis, settled
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import Basis, Section, alike, higher, spread, turned
from gatewise.tasks.exercises import Adding

FLOOR = 1e-30
NEAR, ARRIVES = 50, 0.1
"""Of C4a: half of the longest span that chrono's biases are set for, and the part of a gradient that is to arrive."""
STARTS = ("torch", "orthogonal", "remember", "chrono")
SOME = 3
"""Tasks that must have been solved for a claim about many."""
CLIP, RATE, EXPLODING, DECAYING = 0.1, 0.05, 2.0, 0.3
"""Norm to clip at, learning rate of plain SGD, and gains of the orthogonal recurrent matrix that make gradients of a
plain RNN explode and decay."""


def at_start(runs: Runs) -> Section:
    """C4a."""
    s = runs.scale
    far = min(s.spans[-1], NEAR)
    series: dict[str, dict[str, Sequence[float]]] = {}
    rows: list[list[Any]] = []
    factors: dict[str, float] = {}
    arriving: dict[str, float] = {}
    for name in CELLS:
        for flow in of_cell(cells.get(name), hidden_size=s.units, steps=far, initialise=STARTS, seeds=s.seeds):
            title = f"{name}, {flow.label}"
            factors[title], arriving[title] = flow.factor, flow.mean[far]
            rows.append([title, flow.mean[min(10, far)], flow.mean[far], flow.low[far], flow.high[far], flow.factor])
            if flow.label != "orthogonal":
                series[title] = {"x": list(range(far + 1)), "y": [max(v, FLOOR) for v in flow.mean]}
    gone: Verdict = "holds" if arriving["rnn, torch"] < ARRIVES else "fails"
    through: Verdict = "holds" if min(arriving["gru, torch"], arriving["lstm, torch"]) >= ARRIVES else "fails"
    known = {name: arriving[f"{name}, chrono"] for name in CELLS[:2]}
    power = Power([], [f"{n} with chrono lets {v:.2g} through" for n, v in known.items() if v < ARRIVES])
    return Section(
        "C4a",
        "Repeated products make the gradients of a plain RNN decay; gates answer that, as they start.",
        f"‖∂h_T/∂s_t‖ / √H of untrained layers with {s.units} units on normal inputs over {far} steps, {s.seeds} "
        "seeds, with torch's, orthogonal, remember (bias 1 for the gate that keeps) and chrono initialisation (biases "
        "for spans of up to 100 steps).",
        f"Holds where, as torch initialises them, less than {ARRIVES:g} of the plain RNN's gradient arrives over {far} "
        "steps, and at least that of GRU's and LSTM's. The rule must let chrono pass, which is known to answer decay.",
        power.judged(all_of([gone, through])),
        f"Over {far} steps {arriving['rnn, torch']:.2g} arrives in the plain RNN, {arriving['gru, torch']:.2g} in the "
        f"GRU and {arriving['lstm, torch']:.2g} in the LSTM as torch initialises them. Gates let gradients pass where "
        f"their biases ask them to keep: with chrono {known['gru']:.2g} (GRU) and {known['lstm']:.2g} (LSTM). "
        f"{power.sentence()}",
        {"arriving": arriving, "factor_per_step": factors},
        [
            plot(
                lines(series, "distance (steps)", "‖∂h_T/∂s_t‖ / √H", log_y=True),
                "gradients over distance at the start",
            ),
            table(
                ["cell, initialisation", "after 10 steps", f"after {far}", "lowest seed", "highest", "per step"], rows
            ),
        ],
        Basis(
            f"a factor: {ARRIVES:g} of the gradient",
            "none: nothing is trained",
            "none: every initialisation is shown",
            "none: 0 is a gradient that is gone, 1 one that arrives whole",
            "another default initialisation: with chrono GRU and LSTM pass",
        ),
    )


def after_training_needs(s: Scale) -> list[Network]:
    return [adding(s, cell, span) for cell in CELLS for span in s.spans]


def after_training(runs: Runs) -> Section:
    """C4b, at the longest span that all three cells have learnt: gradients of what has not learnt say nothing."""
    s = runs.scale
    powers = {
        far: must_solve(runs, [adding(s, n, far) for n in CELLS[:2]]) + must_leave(runs, [adding(s, "rnn", far)])
        for far in s.spans
    }
    far = max((span for span, power in powers.items() if power.enough), default=s.spans[0])
    power = powers[far]
    logs: dict[str, list[float]] = {}
    series: dict[str, dict[str, Sequence[float]]] = {}
    rows: list[list[Any]] = []
    for name in CELLS:
        network = adding(s, name, far)
        flows = [norms(look.layer, look.x) for look in looks(runs, network)]
        logs[name] = [float(np.log10(np.maximum(one[far], FLOOR)).mean()) for one in flows]
        flow = summarised(name, np.maximum(np.concatenate(flows, 1), FLOOR))
        series[name] = {"x": list(range(far + 1)), "y": flow.mean, "low": flow.low, "high": flow.high}
        rows.append([name, spread(logs[name]), flow.factor, spread(runs.scores(network))])
    count = min(map(len, logs.values()))
    pairs = {n: higher(logs[n][:count], logs["rnn"][:count], 1.0) for n in CELLS[:2]}
    words = "; ".join(f"{n}: {p.difference} powers of ten more ({v})" for n, (v, p) in pairs.items())
    return Section(
        "C4b",
        "After training, gates let gradients through over distances at which a plain RNN's are gone.",
        f"The same on networks trained on the adding problem, on {ROWS} held-out sequences each, at the longest of the "
        f"spans {', '.join(map(str, s.spans))} that all three have learnt: {far} steps.",
        f"Holds where GRU and LSTM let at least ten times more through over {far} steps than the plain RNN.",
        power.judged(all_of([v for v, _ in pairs.values()])),
        f"Over {far} steps, beside the plain RNN, {words}. {power.sentence()}",
        {"span": far, **{name: vars(p.difference) for name, (_, p) in pairs.items()}},
        [
            plot(lines(series, "distance (steps)", "‖∂h_T/∂s_t‖ / √H", log_y=True), "gradients over distance, trained"),
            table(["cell", f"log₁₀ after {far} steps", "factor per step", "mean squared error"], rows),
            *settled(power),
        ],
        basis(
            runs,
            [adding(s, name, far) for name in CELLS],
            power,
            "one power of ten",
            "; ".join(f"{n}: {turned(p)}" for n, (_, p) in pairs.items())
            + "; a longer span that a plain RNN has learnt",
        ),
    )


def clipping(runs: Runs) -> Section:
    """C4c."""
    s = runs.scale
    span, steps = s.spans[0], s.steps
    setups = {"explodes": EXPLODING, "decays": DECAYING, "neither": 1.0}
    scores = {
        (name, clip): [_plain(span, gain, clip, seed, steps, s.units) for seed in range(s.seeds)]
        for name, gain in setups.items()
        for clip in (None, CLIP)
    }
    margin, guessing = MARGINS["adding"], _guessing(span)
    known, witness = higher([guessing] * s.seeds, scores["neither", CLIP], margin)
    words = f"the same training with a gain of 1 is to leave the level of guessing, its error is {witness.difference}"
    power = Power([], [] if known == "holds" else [f"{words} below it"])
    rescued, gain = higher(scores["explodes", None], scores["explodes", CLIP], margin)
    useless, none = alike(scores["decays", None], scores["decays", CLIP], margin)
    rows = [
        [f"{name} (gain {setups[name]:g})", "no" if clip is None else f"at {clip:g}", spread(values)]
        for (name, clip), values in scores.items()
    ]
    return Section(
        "C4c",
        "Clipping answers exploding gradients, not vanishing ones.",
        f"A plain RNN trained by SGD with momentum 0.9 and learning rate {RATE:g} for {steps} steps on the adding "
        f"problem over {span} steps; its recurrent matrix starts orthogonal times a gain of {EXPLODING:g} (explodes), "
        f"{DECAYING:g} (decays) or 1.",
        f"Holds where clipping lowers the error by {margin:g} in the exploding case and changes it by less in the "
        "other; the same training with a gain of 1 must leave the level of guessing.",
        power.judged(all_of([rescued, useless])),
        f"Exploding: {gain.difference} less error with clipping ({rescued}). Decaying: {none.difference} ({useless}). "
        f"{power.sentence()}",
        {"explodes": vars(gain.difference), "decays": vars(none.difference)},
        [table(["gradient", "clipped", "mean squared error"], rows)],
        Basis(
            f"{margin:g} of mean squared error",
            f"{steps} training steps, {s.seeds} seeds, {s.units} units",
            f"none: SGD at {RATE:g}, clipped at a norm of {CLIP:g}, fixed beforehand",
            f"adding, span {span}: {guessing:.3g}",
            f"exploding: {turned(gain)}; decaying: {turned(none)}" if power.enough else power.sentence().strip(),
        ),
    )


def _guessing(span: int) -> float:
    task = Adding(span=span)
    examples = task.held_out("test")
    return task.measure(task.baselines(examples)["always 1"], examples.targets)


def _plain(span: int, gain: float, clip: float | None, seed: int, steps: int, units: int) -> float:
    """The held-out error of a plain RNN trained by SGD; that of the naive answer where training breaks down."""
    task = Adding(span=span, cell="rnn", hidden_size=units, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = task.build()
        for name, parameter in module.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter, gain)
    optimiser = torch.optim.SGD(module.parameters(), RATE, 0.9)
    generator = np.random.default_rng(seed)
    examples = task.held_out("test")
    naive = task.measure(task.baselines(examples)["always 1"], examples.targets)
    for _ in range(steps):
        batch = task.training(32, generator)
        optimiser.zero_grad()
        loss = task.loss(module(batch.inputs), batch.targets)
        if not math.isfinite(loss.item()):
            return naive
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), math.inf if clip is None else clip)
        optimiser.step()
    with torch.no_grad():
        error = task.measure(module(examples.inputs), examples.targets)
    return error if math.isfinite(error) else naive


def what_is_slow_needs(s: Scale) -> list[Network]:
    return [n for cell in ("gru", "lstm") for n in several(s, cell, s.spans[-1])]


def what_is_slow(runs: Runs) -> Section:
    """C5, on the tasks that both cells have solved."""
    s = runs.scale
    rates: dict[str, list[float]] = {"LSTM c": [], "LSTM h": [], "GRU h": []}
    rows: list[list[Any]] = []
    far = s.spans[-1]
    every = list(zip(several(s, "lstm", far), several(s, "gru", far), strict=True))
    powers = [must_solve(runs, pair) for pair in every]
    solved = [pair for pair, power in zip(every, powers, strict=True) if power.enough]
    for lstm_network, gru_network in solved or every:
        lstm, gru = ([look.over_time() for look in looks(runs, one)] for one in (lstm_network, gru_network))
        count = min(len(lstm), len(gru))
        h, c = ([_change(states[k]) for states in lstm[:count]] for k in (0, 1))
        g = [_change(states[0]) for states in gru[:count]]
        for name, values in zip(rates, (c, h, g), strict=True):
            rates[name] += values
        rows.append([label(gru_network), *(spread(values) for values in (c, h, g))])
    power = _most(powers)
    logs = {name: np.log(values) for name, values in rates.items()}
    slower = interval((logs["LSTM h"] - logs["LSTM c"]).tolist())
    nearer = interval((np.abs(logs["GRU h"] - logs["LSTM h"]) - np.abs(logs["GRU h"] - logs["LSTM c"])).tolist())
    first, second = above(slower, 0.0), above(nearer, 0.0)
    return Section(
        "C5",
        "The LSTM's c changes slowly and its h fast; the GRU's h plays the part of c.",
        f"‖s_t − s_(t−1)‖ / ‖s_(t−1)‖, the median over steps and {ROWS} held-out sequences, of trained networks: "
        f"the {len(solved)} of {len(every)} tasks that both cells have solved. Of the translator it is the first layer "
        "of the decoder.",
        "Holds where the LSTM's h changes relatively more than its c, and the GRU's h is nearer to c than to h, both "
        f"on a logarithmic scale with intervals over tasks and seeds. {SOME} tasks must have been solved.",
        power.judged(all_of([first, second])),
        f"The LSTM's h changes {math.exp(slower.mean):.2f} times as fast as its c ({first}); the GRU's h is nearer to "
        f"{'that c' if nearer.mean > 0 else 'that h'} ({second}). {power.sentence()}",
        {"rates": rates, "log_h_over_c": vars(slower), "nearer_to_c": vars(nearer)},
        [table(["task", "LSTM c, change per step", "LSTM h", "GRU h"], rows), *settled(sum(powers, Power([], [])))],
        basis(
            runs,
            [n for pair in every for n in pair],
            power,
            "none: the sign of a logarithm",
            f"an interval on the other side of zero; they are {slower} (h over c) and {nearer} (nearer to c)",
        ),
    )


def _most(powers: list[Power]) -> Power:
    """Power for a claim about what was found on many tasks: some of them must have been solved."""
    solved = sum(power.enough for power in powers)
    return Power([], [] if solved >= SOME else [m for power in powers for m in power.missing])


def _change(states: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The median relative change of (T, rows, units) from step to step."""
    size, moved = np.linalg.norm(states[:-1], axis=-1), np.linalg.norm(np.diff(states, axis=0), axis=-1)
    return max(1e-12, float(np.median(moved[size > 0] / size[size > 0])))


def forget_and_select_needs(s: Scale) -> list[Network]:
    return several(s, "lstm", s.spans[-1])


def forget_and_select(runs: Runs) -> Section:
    """U6, on the tasks that the LSTM has solved."""
    margin = 0.1
    rows: list[list[Any]] = []
    all_off: list[float] = []
    every = several(runs.scale, "lstm", runs.scale.spans[-1])
    powers = [must_solve(runs, [network]) for network in every]
    solved = [network for network, power in zip(every, powers, strict=True) if power.enough]
    for network in solved or every:
        off, total = [], []
        for look in looks(runs, network):
            gates = look.gates()
            both = (gates["f"] + gates["i"]).double()
            off.append(float((both - 1).abs().mean()))
            total.append(float(both.mean()))
        all_off += off
        rows.append([label(network), str(runs.setting(network)), spread(total), spread(off), 0.0])
    power = _most(powers)
    distance = interval(all_off)
    verdict: Verdict = "holds" if distance.high < margin else "fails" if distance.low > margin else "undecided"
    return Section(
        "U6",
        "One gate can forget and select: a trained LSTM's free gates f and i also add up to 1.",
        "Mean |f + i − 1| over steps, units and held-out sequences of trained LSTMs, on the "
        f"{len(solved)} of {len(every)} tasks that they have solved; in a GRU z and 1 − z add up to 1 by definition.",
        f"Holds where the interval over tasks and seeds is below {margin:g}; fails where it is above. {SOME} tasks "
        "must have been solved.",
        power.judged(verdict),
        f"A trained LSTM's f + i is {distance} away from 1. {power.sentence()}",
        {"distance_from_one": vars(distance)},
        [
            table(["task", "start, rate", "f + i", "|f + i − 1|", "GRU: |z + (1 − z) − 1|"], rows),
            *settled(sum(powers, Power([], []))),
        ],
        basis(
            runs,
            every,
            power,
            f"{margin:g} of a gate's value",
            f"an interval on the other side of {margin:g}; it is {distance}",
        ),
    )
