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
from gatewise.study.trial.plan import CELLS, MARGINS, adding, label, several
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import Section, alike, higher, spread
from gatewise.tasks.exercises import Adding

FLOOR = 1e-30
CLIP, RATE, EXPLODING, DECAYING = 0.1, 0.05, 2.0, 0.3
"""Norm to clip at, learning rate of plain SGD, and gains of the orthogonal recurrent matrix that make gradients of a
plain RNN explode and decay."""


def at_start(runs: Runs) -> Section:
    """C4a."""
    s = runs.scale
    far = s.spans[-1]
    series: dict[str, dict[str, Sequence[float]]] = {}
    rows: list[list[Any]] = []
    factors: dict[str, float] = {}
    for name in CELLS:
        for flow in of_cell(cells.get(name), hidden_size=s.units, steps=far, seeds=s.seeds):
            title = f"{name}, {flow.label}"
            factors[title] = flow.factor
            rows.append([title, flow.mean[min(10, far)], flow.mean[far], flow.low[far], flow.high[far], flow.factor])
            if flow.label != "orthogonal":
                series[title] = {"x": list(range(far + 1)), "y": [max(v, FLOOR) for v in flow.mean]}
    decays: Verdict = "holds" if factors["rnn, torch"] < 0.99 else "fails"
    answers: Verdict = "holds" if factors["gru, torch"] > 0.99 and factors["lstm, torch"] > 0.99 else "fails"
    verdict: Verdict = all_of([decays, answers])
    return Section(
        "C4a",
        "Repeated products make the gradients of a plain RNN decay; gates answer that, as they start.",
        f"‖∂h_T/∂s_t‖ / √H of untrained layers with {s.units} units on normal inputs over {far} steps, {s.seeds} "
        "seeds, "
        "with torch's, orthogonal and chrono initialisation (biases for spans of up to 100 steps).",
        "Holds where, as torch initialises them, the plain RNN loses more than 1 % a step and GRU and LSTM less.",
        verdict,
        f"As torch initialises them all three decay: a step multiplies by {factors['rnn, torch']:.3f} (plain RNN), "
        f"{factors['gru, torch']:.3f} (GRU), {factors['lstm, torch']:.3f} (LSTM). Gates let gradients pass only where "
        "their "
        f"biases ask them to keep: with chrono {factors['gru, chrono']:.3f} (GRU) and {factors['lstm, chrono']:.3f} "
        "(LSTM).",
        {"factor_per_step": factors},
        [
            plot(
                lines(series, "distance (steps)", "‖∂h_T/∂s_t‖ / √H", log_y=True),
                "gradients over distance at the start",
            ),
            table(
                ["cell, initialisation", "after 10 steps", f"after {far}", "lowest seed", "highest", "per step"], rows
            ),
        ],
    )


def after_training(runs: Runs) -> Section:
    """C4b."""
    s = runs.scale
    far = s.spans[-1]
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
        f"The same on networks trained on the adding problem over {far} steps, on {ROWS} held-out sequences each.",
        f"Holds where GRU and LSTM let at least ten times more through over {far} steps than the plain RNN.",
        all_of([v for v, _ in pairs.values()]),
        f"Over {far} steps, beside the plain RNN, {words}.",
        {name: vars(p.difference) for name, (_, p) in pairs.items()},
        [
            plot(lines(series, "distance (steps)", "‖∂h_T/∂s_t‖ / √H", log_y=True), "gradients over distance, trained"),
            table(["cell", f"log₁₀ after {far} steps", "factor per step", "mean squared error"], rows),
        ],
    )


def clipping(runs: Runs) -> Section:
    """C4c."""
    s = runs.scale
    steps = max(1, s.steps // 2)
    short, long = s.spans[0], s.spans[-1]
    setups = {"explodes": (short, EXPLODING), "decays": (long, DECAYING)}
    scores = {
        (name, clip): [_plain(span, gain, clip, seed, steps, s.units) for seed in range(s.seeds)]
        for name, (span, gain) in setups.items()
        for clip in (None, CLIP)
    }
    margin = MARGINS["adding"]
    rescued, gain = higher(scores["explodes", None], scores["explodes", CLIP], margin)
    useless, none = alike(scores["decays", None], scores["decays", CLIP], margin)
    titles = {"explodes": f"{short} steps, gain {EXPLODING:g}", "decays": f"{long} steps, gain {DECAYING:g}"}
    rows = [
        [f"{name} ({titles[name]})", "no" if clip is None else f"at {clip:g}", spread(values)]
        for (name, clip), values in scores.items()
    ]
    return Section(
        "C4c",
        "Clipping answers exploding gradients, not vanishing ones.",
        f"A plain RNN trained by SGD with momentum 0.9 and learning rate {RATE:g} for {steps} steps on the adding "
        "problem; its "
        f"recurrent matrix starts orthogonal times a gain of {EXPLODING:g} (explodes) or {DECAYING:g} (decays).",
        f"Holds where clipping lowers the error by {margin:g} in the exploding case and changes it by less in the "
        "other.",
        all_of([rescued, useless]),
        f"Exploding: {gain.difference} less error with clipping ({rescued}). Decaying: {none.difference} ({useless}).",
        {"explodes": vars(gain.difference), "decays": vars(none.difference)},
        [table(["gradient", "clipped", "mean squared error"], rows)],
    )


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


def what_is_slow(runs: Runs) -> Section:
    """C5."""
    s = runs.scale
    rates: dict[str, list[float]] = {"LSTM c": [], "LSTM h": [], "GRU h": []}
    rows: list[list[Any]] = []
    far = s.spans[-1]
    for lstm_network, gru_network in zip(several(s, "lstm", far), several(s, "gru", far), strict=True):
        lstm, gru = ([look.over_time() for look in looks(runs, one)] for one in (lstm_network, gru_network))
        count = min(len(lstm), len(gru))
        h, c = ([_change(states[k]) for states in lstm[:count]] for k in (0, 1))
        g = [_change(states[0]) for states in gru[:count]]
        for name, values in zip(rates, (c, h, g), strict=True):
            rates[name] += values
        rows.append([label(gru_network), *(spread(values) for values in (c, h, g))])
    logs = {name: np.log(values) for name, values in rates.items()}
    slower = interval((logs["LSTM h"] - logs["LSTM c"]).tolist())
    nearer = interval((np.abs(logs["GRU h"] - logs["LSTM h"]) - np.abs(logs["GRU h"] - logs["LSTM c"])).tolist())
    first, second = above(slower, 0.0), above(nearer, 0.0)
    return Section(
        "C5",
        "The LSTM's c changes slowly and its h fast; the GRU's h plays the part of c.",
        f"‖s_t − s_(t−1)‖ / ‖s_(t−1)‖, the median over steps and {ROWS} held-out sequences, of trained networks: "
        f"{len(rows)} tasks, {s.seeds} seeds. Of the translator it is the first layer of the decoder.",
        "Holds where the LSTM's h changes relatively more than its c, and the GRU's h is nearer to c than to h, both "
        "on a "
        "logarithmic scale with intervals over tasks and seeds.",
        all_of([first, second]),
        f"The LSTM's h changes {math.exp(slower.mean):.2f} times as fast as its c ({first}); the GRU's h is nearer to "
        f"{'that c' if nearer.mean > 0 else 'that h'} ({second}).",
        {"rates": rates, "log_h_over_c": vars(slower), "nearer_to_c": vars(nearer)},
        [table(["task", "LSTM c, change per step", "LSTM h", "GRU h"], rows)],
    )


def _change(states: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The median relative change of (T, rows, units) from step to step."""
    size, moved = np.linalg.norm(states[:-1], axis=-1), np.linalg.norm(np.diff(states, axis=0), axis=-1)
    return max(1e-12, float(np.median(moved[size > 0] / size[size > 0])))


def forget_and_select(runs: Runs) -> Section:
    """U6."""
    margin = 0.1
    rows: list[list[Any]] = []
    all_off: list[float] = []
    for network in several(runs.scale, "lstm", runs.scale.spans[-1]):
        off, total = [], []
        for look in looks(runs, network):
            gates = look.gates()
            both = (gates["f"] + gates["i"]).double()
            off.append(float((both - 1).abs().mean()))
            total.append(float(both.mean()))
        all_off += off
        rows.append([label(network), spread(total), spread(off), 0.0])
    distance = interval(all_off)
    verdict: Verdict = "holds" if distance.high < margin else "fails" if distance.low > margin else "undecided"
    return Section(
        "U6",
        "One gate can forget and select: a trained LSTM's free gates f and i also add up to 1.",
        "Mean |f + i − 1| over steps, units and held-out sequences of trained LSTMs; in a GRU z and 1 − z add up to 1 "
        "by "
        "definition.",
        f"Holds where the interval over tasks and seeds is below {margin:g}; fails where it is above.",
        verdict,
        f"A trained LSTM's f + i is {distance} away from 1.",
        {"distance_from_one": vars(distance)},
        [table(["task", "f + i", "|f + i − 1|", "GRU: |z + (1 − z) − 1|"], rows)],
    )
