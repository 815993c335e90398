"""Language models on tiny Shakespeare: ``python -m benches.language`` and what is asked for.

``--minutes 3`` or ``15`` trains the recipe that is made for so many minutes on two quiet cores, scores it beside n-gram
models and says how long it took. ``--speed`` times training on Gatewise's layers and on torch's in their place;
``--generation`` times the writing of one text, beside a loop over torch's layer and, where it is installed, over ONNX
Runtime's; both first compare the numbers. ``--curves`` trains cells at equal parameters. Figures are added to the JSON
file; ``--table`` prints what it holds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benches import machine
from benches.language_loops import loops
from benches.translate import TorchLayer
from gatewise.compiler import Cell
from gatewise.study.compare import parameters, solve
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.folder import write_json
from gatewise.tasks.language import LanguageModel
from gatewise.tasks.language.language_model import BETAS
from gatewise.tasks.language.objective import LanguageObjective
from gatewise.tasks.progress import Progress

DATA = Path("../shared/data/tinyshakespeare/input.txt")
RESULTS = Path("docs/language.json")
RECIPES: dict[str, dict[str, Any]] = {
    "3": {"max_steps": 2400},
    "15": {"num_layers": 2, "dropout": 0.35, "max_steps": 4400, "learning_rate": 3e-3},
}
GOALS = {"3": 1.46, "15": 1.42}
CURVES = ("gru_reset_after", "gru", "lstm", "rnn")
CURVE_STEPS, EVERY = 1200, 100
UNITS = (128, 512)
TORCHS = ("gru_reset_after", "lstm")


class TorchLanguageLayer(TorchLayer):
    """A layer of ``torch.nn`` for the network; a window in which a document begins is read in pieces."""

    def __init__(self, cell: Cell, width: int, units: int, layers: int = 1) -> None:
        super().__init__(cell, width, units, layers)

    def forward(
        self, x: Tensor, start: Any = None, *, reset: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        if reset is None or not reset.any():
            return super().forward(x, start, lengths=lengths)
        cuts = sorted({0, *reset.any(1).nonzero().flatten().tolist()})
        found = []
        for begin, end in itertools.pairwise([*cuts, len(x)]):
            if start is not None:
                kept = ~reset[begin][:, None]
                start = tuple(s * kept for s in start) if isinstance(start, tuple) else start * kept
            y, start = super().forward(x[begin:end], start)
            found.append(y)
        return torch.cat(found), start


class Silent(LanguageObjective):
    """Without a sample, which torch's layers would write in another way."""

    def _sample(self) -> str:
        return ""


class TorchLanguageModel(LanguageModel):
    """The same on torch's layers."""

    layers = TorchLanguageLayer

    def objective(self) -> LanguageObjective:
        found = super().objective()
        found.__class__ = Silent
        return found


class Curve(LanguageModel):
    """Validated more often."""

    def steps_per_epoch(self) -> int:
        return EVERY


def train(minutes: str, data: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Train a recipe, and score it."""
    recipe = {**RECIPES[minutes], **changes}
    started = time.perf_counter()
    model = LanguageModel(**recipe).fit(str(data), report=Progress)
    total, history = time.perf_counter() - started, model.history
    seconds = sum(epoch.seconds for epoch in history.epochs)
    scores = {name: values["nats"] for name, values in model.scores.items()}
    return {
        "minutes": minutes,
        "recipe": recipe,
        "cell": model.cell.name,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "scores": scores,
        "training seconds": seconds,
        "seconds": total,  # with reading, validations, samples and the scores of the n-gram models
        "characters": sum(epoch.size for epoch in history.epochs),
        "sample": model.generate("", 400, temperature=0.8),
        "machine": machine.features(),
    }


def speed(data: Path, rounds: int, steps: int, units: int) -> list[dict[str, Any]]:
    """Characters a second of training on both kinds of layers, in turns: the least time of some rounds counts."""
    found = []
    for cell in TORCHS:
        jobs = {}
        for name, kind in (("gatewise", LanguageModel), ("torch", TorchLanguageModel)):
            model = kind(cell=cell, hidden_size=units, dropout=0.0)
            model.read(str(data))
            model._untrained()
            jobs[name] = Job(model, steps)
        check({name: job.first() for name, job in jobs.items()}, cell)
        best = dict.fromkeys(jobs, math.inf)
        for _ in range(rounds):
            for name, job in jobs.items():
                started = time.perf_counter()
                job.run()
                best[name] = min(best[name], time.perf_counter() - started)
        rates = {name: jobs[name].size / best[name] for name in jobs}
        found.append({"cell": cell, "units": units, "threads": torch.get_num_threads(), "characters/s": rates})
    return found


def check(found: dict[str, tuple[Tensor, Tensor]], what: str) -> None:
    """Stop where losses or gradients differ: then no time is worth anything."""
    for own, other in zip(found["gatewise"], found["torch"], strict=True):
        if float((own - other).norm() / other.norm()) > 1e-4:
            raise SystemExit(f"{what}: losses or gradients of the two kinds of layers differ")


class Job:
    """Steps of a training over the same windows."""

    def __init__(self, model: LanguageModel, steps: int) -> None:
        self.objective, self.module = model.objective(), model.network.train()
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3, betas=BETAS, fused=True)
        self.windows = list(itertools.islice(self.objective.batches(np.random.default_rng(0)), steps))
        self.size = sum(self.objective.size(window) for window in self.windows)

    def run(self) -> None:
        """As the loop of training does it."""
        state = None
        for window in self.windows:
            self.optimizer.zero_grad()
            loss, state = self.objective.carried_loss(self.module, window, state)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
            loss.item()

    def first(self) -> tuple[Tensor, Tensor]:
        """The losses of the first windows, and their gradient with respect to the embedding."""
        state, losses = None, []
        for window in self.windows[:3]:
            loss, state = self.objective.carried_loss(self.module, window, state)
            losses.append(loss)
        whole = torch.stack(losses)
        (gradient,) = torch.autograd.grad(whole.sum(), [self.module.embedding.weight])
        return whole.detach(), gradient


def generation(data: Path, rounds: int, length: int, units: Sequence[int] = UNITS) -> list[dict[str, Any]]:
    """Tokens a second of one text that each way writes, after they were seen to write the same."""
    found = []
    for count in units:
        model = LanguageModel(hidden_size=count, max_steps=1)
        model.read(str(data))
        model._untrained()
        model.fitted().eval()
        ways = loops(model, length)
        texts = {name: way() for name, way in ways.items()}
        if len(set(texts.values())) > 1:
            raise SystemExit(f"{count} units: the ways write different texts: {texts}")
        best = dict.fromkeys(ways, math.inf)
        for _ in range(rounds):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                best[name] = min(best[name], time.perf_counter() - started)
        rates = {name: length / seconds for name, seconds in best.items()}
        found.append({"units": count, "threads": torch.get_num_threads(), "tokens/s": rates})
    return found


def curve(data: Path, cell: str, seed: int, steps: int, changes: dict[str, Any]) -> dict[str, Any]:
    """A training of a cell with the parameters of the first one."""
    model = Curve(cell=cell, seed=seed, max_steps=steps, **changes)
    model.read(str(data))
    target = parameters(model, cell_of(CURVES[0]), model.options.hidden_size)
    units = solve(lambda size: parameters(model, model.cell, size), target)
    model = Curve(cell=cell, seed=seed, max_steps=steps, **{**changes, "hidden_size": units}).fit(
        str(data), report=Progress
    )
    epochs = model.history.epochs
    return {
        "cell": cell,
        "seed": seed,
        "units": units,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "steps": np.cumsum([e.steps for e in epochs]).tolist(),
        "seconds": np.cumsum([e.seconds for e in epochs]).round(2).tolist(),
        "nats": [e.value for e in epochs],
    }


def tables(kept: dict[str, Any]) -> list[str]:
    """All that a page shows of what was kept."""
    return [text for make in (_training, _speed, _generation, _curves) if (text := make(kept))]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) if rows else ""


def _training(kept: dict[str, Any]) -> str:
    rows: list[list[Any]] = []
    for one in kept.get("training", []):
        recipe = ", ".join(f"{name} {value}" for name, value in one["recipe"].items())
        nats, minutes = one["scores"][one["cell"]], f"{one['training seconds'] / 60:.1f}"
        rate = f"{one['characters'] / one['training seconds']:,.0f}"
        rows.append([one["cell"], f"{one['parameters']:,}", recipe, minutes, rate, *_nats(nats)])
    for one in kept.get("training", [])[-1:]:
        others = [(name, nats) for name, nats in one["scores"].items() if name != one["cell"]]
        rows += [[f"Kneser–Ney {name}", "", "", "", "", *_nats(nats)] for name, nats in others]
    head = ["model", "parameters", "options", "minutes of training", "characters/s", "nats", "bits"]
    return _table(head, rows)


def _nats(value: float) -> list[str]:
    return [f"{value:.4f}", f"{value / math.log(2):.4f}"]


def _speed(kept: dict[str, Any]) -> str:
    rows = []
    for one in kept.get("speed", []):
        own, other = (one["characters/s"][name] for name in ("gatewise", "torch"))
        rows.append([one["cell"], one["units"], one["threads"], f"{own:,.0f}", f"{other:,.0f}", f"{own / other:.2f}"])
    return _table(["training, characters/s", "units", "threads", "Gatewise", "torch.nn", "ratio"], rows)


def _generation(kept: dict[str, Any]) -> str:
    found = kept.get("generation", [])
    names = [name for name in (found[0]["tokens/s"] if found else ()) if name != "gatewise"]
    rows = []
    for one in found:
        rates = one["tokens/s"]
        own = rates["gatewise"]
        others = [f"{rates[name]:,.0f} ({own / rates[name]:.1f})" if name in rates else "" for name in names]
        rows.append([one["units"], one["threads"], f"{own:,.0f}", *others])
    return _table(["one text, tokens/s: units", "threads", "Gatewise", *(f"{name} (ratio)" for name in names)], rows)


def _curves(kept: dict[str, Any]) -> str:
    """Means over the seeds at some steps, with the seconds up to there."""
    by_cell: dict[str, list[dict[str, Any]]] = {}
    for one in kept.get("curves", []):
        by_cell.setdefault(one["cell"], []).append(one)
    if not by_cell:
        return ""
    steps = next(iter(by_cell.values()))[0]["steps"]
    chosen = sorted({max(0, round(len(steps) * share) - 1) for share in (0.25, 0.5, 0.75, 1)})
    rows = []
    for cell, own in by_cell.items():
        shown = [f"{_spread([one['nats'][k] for one in own])} ({_seconds(own, k)} s)" for k in chosen]
        rows.append([cell, own[0]["units"], f"{own[0]['parameters']:,}", len(own), *shown])
    return _table(["cell", "units", "parameters", "seeds", *(f"{steps[k]:,} steps" for k in chosen)], rows)


def _seconds(own: list[dict[str, Any]], k: int) -> str:
    return f"{statistics.median(one['seconds'][k] for one in own):.0f}"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def changed(texts: Sequence[str]) -> dict[str, Any]:
    """Options by name=value, a value as JSON has it, or a text."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the text")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are added")
    parser.add_argument("--minutes", choices=RECIPES)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other options of the model")
    for name in ("speed", "generation", "curves", "table"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--units", type=int, nargs="+", default=UNITS, help="for --speed (the last) and --generation")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="of a round of --speed")
    parser.add_argument("--length", type=int, default=500, help="tokens that --generation writes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--curve-steps", type=int, default=CURVE_STEPS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args(arguments)
    if not asked.data.exists() and not asked.table:
        raise SystemExit(f"--data must be the text of tiny Shakespeare, but {asked.data} does not exist")
    torch.set_num_threads(asked.threads)
    kept: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json.exists() else {}

    def keep(name: str, new: list[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> None:
        replaced = {key(one) for one in new}
        kept[name] = [*(one for one in kept.get(name, []) if key(one) not in replaced), *new]
        kept["machine"] = machine.features()
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(asked.json, kept)

    if asked.minutes:
        one = train(asked.minutes, asked.data, changed(asked.set))
        nats = one["scores"][one["cell"]]
        print(f"{nats:.4f} nats, goal {GOALS[asked.minutes]}; {one['training seconds']:.0f} s", file=sys.stderr)
        keep("training", [one], lambda one: one["minutes"])
    if asked.speed:
        keep("speed", speed(asked.data, asked.rounds, asked.steps, asked.units[-1]), _speed_key)
    if asked.generation:
        keep("generation", generation(asked.data, asked.rounds, asked.length, asked.units), _generation_key)
    for seed in range(asked.seeds if asked.curves else 0):
        for cell in CURVES:
            if not any((one["cell"], one["seed"]) == (cell, seed) for one in kept.get("curves", [])):
                found = curve(asked.data, cell, seed, asked.curve_steps, changed(asked.set))
                keep("curves", [found], lambda one: (one["cell"], one["seed"]))
    print("\n\n".join(tables(kept)))


def _speed_key(one: dict[str, Any]) -> Any:
    return one["cell"], one["units"], one["threads"]


def _generation_key(one: dict[str, Any]) -> Any:
    return one["units"], one["threads"]


if __name__ == "__main__":
    main()
