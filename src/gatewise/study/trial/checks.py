"""Checks of the instrument, run before any verdict: results that are known, by which a trial that finds others is at
fault itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gatewise.study.page import Block, table
from gatewise.study.trial.plan import MARGINS, Network, Scale, network
from gatewise.study.trial.power import Learnt, learnt
from gatewise.study.trial.resting import tuning
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import alike, higher, spread
from gatewise.tasks.errors import InputError

Outcome = Literal["passes", "fails", "undecided", "not run"]
MUSIC_MARGIN = 0.1
"""Nats per step: GRU and LSTM differ by 0.13 on the chorales and by 0.03 on Nottingham in Chung et al. 2014."""


@dataclass(frozen=True)
class Check:
    """A known result, with its source, and whether the trial finds it too."""

    id: str
    known: str
    how: str
    rule: str
    outcome: Outcome
    sentence: str
    figures: dict[str, Any]
    blocks: list[Block] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def needs(s: Scale) -> list[Network]:
    """The networks of the checks; their start is given, so that the learning rate alone is tuned."""
    return [*_adding(s).values(), *_copy(s).values()]


def _adding(s: Scale) -> dict[str, Network]:
    base = {"span": s.check_span, "max_steps": s.check_steps}
    pairs = (("lstm", "remember"), ("rnn", "torch"), ("rnn", "orthogonal"))
    return {f"{cell}, {start}": network(s, "adding", cell, start=start, **base) for cell, start in pairs}


def _copy(s: Scale) -> dict[str, Network]:
    base = {"span": s.lag, "max_steps": max(1, s.check_steps // 2)}
    return {f"lstm, {start}": network(s, "copy", "lstm", start=start, **base) for start in ("torch", "chrono")}


def checked(runs: Runs, music: Path | None) -> list[Check]:
    """Every check, from finished fits."""
    return [solves_adding(runs), chrono_helps(runs), same_on_music(music)]


def solves_adding(runs: Runs) -> Check:
    s = runs.scale
    networks = _adding(s)
    found = {name: learnt(runs, one, name) for name, one in networks.items()}
    solves, plain, orthogonal = found["lstm, remember"], found["rnn, torch"], found["rnn, orthogonal"]
    passes = solves.has_solved and plain.solving == 0
    further = (
        f"From an orthogonal start the plain RNN solves it in {orthogonal.solving} of {len(orthogonal.scores)} seeds."
    )
    return Check(
        "adding",
        f"An LSTM whose forget gate starts with bias 1 solves the adding problem over {s.check_span} steps (Gers et "
        "al. 2000; Jozefowicz et al. 2015); a tanh RNN does not without an orthogonal start.",
        f"{s.check_steps} training steps, {s.check_seeds} seeds, {tuning(runs, list(networks.values()))}.",
        "Passes where three quarters of the LSTM's seeds solve it, and no plain RNN as torch initialises it does.",
        "passes" if passes else "fails",
        f"{solves.words()}; {plain.words()}. {further}",
        {name: one.scores for name, one in found.items()},
        [_table(list(found.values()))],
    )


def chrono_helps(runs: Runs) -> Check:
    s = runs.scale
    networks = _copy(s)
    found = {name: learnt(runs, one, name) for name, one in networks.items()}
    margin = MARGINS["copy"]
    torch, chrono = (runs.scores(networks[name]) for name in ("lstm, torch", "lstm, chrono"))
    verdict, pair = higher(torch, chrono, margin)
    outcomes: dict[str, Outcome] = {"holds": "passes", "fails": "fails"}
    return Check(
        "copy",
        "Chrono initialisation helps an LSTM to copy over long lags (Tallec & Ollivier 2018: lags of 500 and 2,000 "
        "steps, 128 units).",
        f"Copy memory over {s.lag} steps, five of eight symbols, {max(1, s.check_steps // 2)} training steps, "
        f"{s.check_seeds} seeds; {tuning(runs, list(networks.values()))}. Lag and network are smaller than the "
        "paper's, and its ten symbols are five here, so that it takes minutes.",
        f"Passes where the error with chrono is lower than with torch's start by {margin:g} points.",
        outcomes.get(verdict, "undecided"),
        f"{spread(torch)} % wrong with torch's start, {spread(chrono)} % with chrono, difference {pair.difference} "
        f"points, where guessing has {found['lstm, torch'].guessing:.3g} %.",
        {"torch": torch, "chrono": chrono},
        [_table(list(found.values()))],
    )


def same_on_music(kept: Path | None) -> Check:
    """From what ``python -m benches.chung2014`` measured: the music is no part of Gatewise."""
    known = "GRU and LSTM come out alike on music (Chung et al. 2014: 8.54 and 8.67 nats a step on the JSB chorales)."
    rule = f"Passes where the 90 % interval of the paired difference lies inside ± {MUSIC_MARGIN:g} nats a step."
    if kept is None:
        sentence = "The music is no part of Gatewise: `--music docs/chung2014.json` takes what was measured on it."
        return Check("music", known, "Not run.", rule, "not run", sentence, {})
    figures = _music(kept)
    count = min(map(len, figures.values()))
    verdict, pair = alike(figures["gru"][:count], figures["lstm"][:count], MUSIC_MARGIN)
    outcomes: dict[str, Outcome] = {"holds": "passes", "fails": "fails"}
    rows = [[cell, spread(values), published] for (cell, values), published in zip(figures.items(), PAPER, strict=True)]
    return Check(
        "music",
        known,
        f"JSB chorales, {count} seeds, by `python -m benches.chung2014`, kept in {kept.name}; learning rate, dropout "
        "and noise chosen by validation.",
        rule,
        outcomes.get(verdict, "undecided"),
        f"The GRU's negative log-likelihood less the LSTM's is {pair.difference} nats a step. The paper trains with "
        "RMSProp and ten random learning rates, here it is Adam and six settings.",
        figures,
        [table(["cell", "nats per step, test", "published"], rows)],
    )


PAPER = (8.54, 8.67)


def _music(kept: Path) -> dict[str, list[float]]:
    """Test figures of GRU and LSTM on the chorales, a seed each, at the setting that has most seeds."""
    try:
        fits = [f for f in json.loads(kept.read_text(encoding="utf-8"))["fits"] if f["data"] == "jsb"]
        found = {}
        for cell in ("gru", "lstm"):
            by: dict[str, dict[int, float]] = {}
            for fit in fits:
                if fit["cell"] == cell:
                    by.setdefault(json.dumps(fit["setting"]), {})[int(fit["seed"])] = float(fit["test"])
            seeds = max(by.values(), key=len)
            found[cell] = [seeds[seed] for seed in sorted(seeds)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"music: got {kept}, expected the JSON of benches.chung2014 ({error})") from None
    return found


def _table(found: Sequence[Learnt]) -> Block:
    rows = [
        [one.cell, one.setting, spread(one.scores), one.guessing, one.solved, f"{one.solving} of {len(one.scores)}"]
        for one in found
    ]
    metric = found[0].metric
    return table(["network", "start, rate", metric, "guessing", "solved from", "seeds that solved it"], rows)
