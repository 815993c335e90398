"""The claims about cost: C1 (parameters), C7 (memory, time of a step, time to train)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gatewise.nn as gn
from gatewise import cells
from gatewise.study.measure import one_thread, saved, seconds, weight_bytes
from gatewise.study.page import lines, plot, table
from gatewise.study.statistics import Verdict, above, all_of, interval
from gatewise.study.trial.plan import CELLS, Network, Scale, digits
from gatewise.study.trial.power import must_solve
from gatewise.study.trial.resting import basis, settled
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import Basis, Section, higher, reach, spread, turned

SHAPES = ((1, 100, 64, 64), (32, 50, 64, 128), (64, 20, 128, 256))
"""Rows, steps, input size, hidden size."""


def counts(runs: Runs) -> Section:
    """C1."""
    sizes = [(1, 32), (64, 64), (128, 256), (512, 1024)]
    rows: list[list[Any]] = []
    for name in (*CELLS, "gru_reset_after"):
        cell = cells.get(name)
        gates = len(cell.gates)
        rows.append([name, len(cell.states), gates, *(cell.parameter_count(i, h) for i, h in sizes)])
    groups = {str(row[0]): row[2] for row in rows}
    ratios = [cells.gru.parameter_count(i, h) / cells.lstm.parameter_count(i, h) for i, h in sizes]
    right = groups["rnn"] == 1 and groups["gru"] == 3 and groups["lstm"] == 4 and set(ratios) == {0.75}
    header = ["cell", "states", "groups of parameters", *(f"parameters at {i}, {h}" for i, h in sizes)]
    return Section(
        "C1",
        "An LSTM has two states and four groups of parameters, a GRU one state and three groups; a plain RNN has one.",
        "Counted from the equations, at several input and hidden sizes.",
        "Holds where the groups are 1, 3 and 4 and the GRU has three quarters of the LSTM's parameters at every size.",
        "holds" if right else "fails",
        f"The GRU has {ratios[0]:.0%} of the LSTM's parameters. The form with the reset after the product has one more "
        "bias, for the candidate's recurrent half.",
        {"groups": groups, "gru_to_lstm": ratios},
        [table(header, rows)],
    )


def layers() -> dict[str, tuple[Callable[[int, int], nn.Module], Callable[[int, int], nn.Module]]]:
    """By implementation: what makes the LSTM and what makes the GRU."""
    return {
        "Gatewise, reset before": (gn.LSTM, gn.GRU),
        "Gatewise, reset after": (gn.LSTM, lambda i, h: gn.GRU(i, h, reset_after=True)),
        "torch.nn": (nn.LSTM, nn.GRU),
    }


def step_of(layer: nn.Module, x: Tensor, train: bool) -> Callable[[], None]:
    """A pass over a sequence: forward alone, or forward and backward with every gradient."""

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        y, _ = layer(x)
        y.backward(torch.ones_like(y))

    return both if train else forward


def held(layer: nn.Module, x: Tensor) -> int:
    """Bytes that must be held between forward and backward, with the weights and their gradients."""
    with saved(layer) as kept:
        y, _ = layer(x)
    return 2 * weight_bytes(layer) + sum(kept.values()) + int(y.nbytes)


def _measured(rounds: int) -> list[dict[str, Any]]:
    """LSTM ÷ GRU of every implementation and shape; the two take turns, round by round."""
    cases = []
    for name, (lstm, gru) in layers().items():
        for rows, steps, width, units in SHAPES:
            torch.manual_seed(0)
            x = torch.randn(steps, rows, width, requires_grad=True)
            pair = [lstm(width, units), gru(width, units)]
            memory = held(pair[0], x) / held(pair[1], x)
            for train in (False, True):
                runs = [step_of(layer, x, train) for layer in pair]
                for run in runs:
                    run()
                times = np.array(
                    [
                        [min(seconds(run, 0.01, time.thread_time) for _ in range(3)) for run in runs]
                        for _ in range(rounds)
                    ]
                )
                ratio = interval((times[:, 0] / times[:, 1]).tolist())
                shape = f"{rows}, {steps}, {width}, {units}"
                per_step = 1e6 * times.min(0) / steps
                cases.append({"what": name, "shape": shape, "training": train, "ratio": ratio, "memory": memory})
                cases[-1] |= {"lstm_us": float(per_step[0]), "gru_us": float(per_step[1])}
    return cases


def cheaper(runs: Runs) -> list[Section]:
    """C7, in two parts: memory, and time of a step."""
    with one_thread():
        cases = _measured(runs.scale.timing_rounds)
    memory: list[Verdict] = ["holds" if one["memory"] > 1 else "fails" for one in cases]
    speed = [above(one["ratio"], 1.0) for one in cases]
    header = [
        "layers",
        "rows, steps, input, hidden",
        "pass",
        "LSTM µs/step",
        "GRU µs/step",
        "LSTM ÷ GRU",
        "GRU is faster",
    ]
    rows = [
        [
            o["what"],
            o["shape"],
            "training" if o["training"] else "inference",
            o["lstm_us"],
            o["gru_us"],
            str(o["ratio"]),
            v,
        ]
        for o, v in zip(cases, speed, strict=True)
    ]
    by_kind = {name: [v for o, v in zip(cases, speed, strict=True) if o["what"] == name] for name in layers()}
    words = "; ".join(f"{name}: {v.count('holds')} of {len(v)} passes faster" for name, v in by_kind.items())
    bytes_rows = [[o["what"], o["shape"], o["memory"]] for o in cases if o["training"]]
    plain = [{**o, "ratio": vars(o["ratio"])} for o in cases]
    return [
        Section(
            "C7a",
            "A GRU needs less memory than an LSTM of the same size.",
            "Bytes of weights, their gradients, and what is held between forward and backward, at equal hidden size.",
            "Holds where the LSTM needs more at every shape, in every implementation.",
            all_of(memory),
            f"The LSTM needs {min(o['memory'] for o in cases):.2f} to {max(o['memory'] for o in cases):.2f} times as "
            "much.",
            {"ratios": [o["memory"] for o in cases]},
            [table(["layers", "rows, steps, input, hidden", "LSTM ÷ GRU, bytes"], bytes_rows)],
            Basis(margin="none: bytes are counted", change="an implementation that holds other arrays"),
        ),
        Section(
            "C7b",
            "A GRU is faster to compute than an LSTM of the same size.",
            "One layer, float32, processor time of one thread; LSTM and GRU take turns in "
            f"{runs.scale.timing_rounds} "
            "rounds, the least of three times each, and a round's ratio is one figure.",
            "Holds where the interval of LSTM ÷ GRU is above 1 for every shape, pass and implementation; fails where "
            "it is "
            "below 1 for any. The reset before the product needs two dependent products a step where the LSTM needs "
            "one.",
            all_of(speed),
            words + ".",
            {"passes": plain},
            [table(header, rows)],
            Basis(
                margin="none: the interval of a ratio beside 1",
                budget=f"{runs.scale.timing_rounds} rounds on this machine",
                change=f"another machine or another implementation; here not faster: {_slower(cases, speed)}",
            ),
        ),
    ]


def _slower(cases: list[dict[str, Any]], speed: list[Verdict]) -> str:
    """The implementations of which the GRU was not certainly faster in every pass."""
    names = dict.fromkeys(case["what"] for case, verdict in zip(cases, speed, strict=True) if verdict != "holds")
    return ", ".join(names) or "none"


def easier_needs(s: Scale) -> list[Network]:
    return [digits(s, "gru"), digits(s, "lstm")]


def easier(runs: Runs) -> Section:
    """C7c."""
    gru, lstm = digits(runs.scale, "gru"), digits(runs.scale, "lstm")
    power = must_solve(runs, [gru, lstm])
    reached: dict[str, list[float]] = {}
    curves = {}
    for network in (gru, lstm):
        name, fits = network.cell.name, [fit for fit in runs.of(network) if not fit.broke]
        half = 0.5 * fits[0].guessing
        reached[name] = [_seconds_to(fit.seconds, fit.values, half) for fit in fits]
        clock = np.mean([np.cumsum(fit.seconds) for fit in fits], 0)
        values = np.array([fit.values for fit in fits])
        curve = {"x": clock.tolist(), "y": values.mean(0).tolist()}
        curves[name] = curve | {"low": values.min(0).tolist(), "high": values.max(0).tolist()}
    margin = 0.1 * float(np.mean(reached["gru"]))
    verdict, pair = higher(reached["lstm"], reached["gru"], margin)
    return Section(
        "C7c",
        "A GRU is easier to train: it gets there in less time.",
        "Digits at equal parameters: seconds of training until the validation error is half of the naive answer's. A "
        "training that never gets there counts with all its seconds.",
        "Holds where the LSTM needs longer by a tenth of the GRU's time at least; fails where they are equal within "
        "that.",
        power.judged(verdict),
        f"The LSTM needs {pair.difference} s more than the GRU's {np.mean(reached['gru']):.2f} s. {power.sentence()}",
        {"seconds": reached, "difference": vars(pair.difference), "p": pair.p_value},
        [
            plot(lines(curves, "seconds of training", "wrong answers on validation (%)"), "error over seconds"),
            table(
                ["cell", "seconds to half of the naive error", "LSTM − GRU"],
                [["gru", spread(reached["gru"]), ""], ["lstm", spread(reached["lstm"]), reach(pair)]],
            ),
            *settled(power),
        ],
        basis(
            runs,
            [gru, lstm],
            power,
            f"a tenth of the GRU's time, {margin:.2g} s on this machine",
            f"{turned(pair)}; another machine, since seconds are those of this one",
        ),
    )


def _seconds_to(taken: list[float], values: list[float], target: float) -> float:
    clock = np.cumsum(taken)
    first = next((k for k, value in enumerate(values) if value <= target), len(values) - 1)
    return float(clock[first])
