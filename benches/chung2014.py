"""The comparison of Chung et al. 2014 (arXiv 1412.3555) on polyphonic music: ``python -m benches.chung2014``.

GRU, LSTM and tanh units in the numbers of the paper, on JSB chorales and Nottingham: piano rolls of 88 keys, the next
step predicted from all steps so far. The figure is the negative log-likelihood in nats: the sum over the keys, the mean
over the steps. Every cell gets the same tuning: each setting of the data set's grid is tried with seed 0, the best
validation figure decides, and the test figure is that of the weights that were best on validation. Results are written
after every fit, and a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gatewise as gw
from benches.machine import features
from gatewise.tasks.folder import write_json
from gatewise.tasks.objective import CarriedObjective, Schedule, own_rows
from gatewise.tasks.training import train

KEYS, SEEDS = 88, 5
CELLS = {"gru": 46, "lstm": 36, "rnn": 100}
"""Units as in the paper."""
FILES = {"jsb": "JSB_Chorales.mat", "nottingham": "Nottingham.mat"}
PATIENCE, CLIP = 40, 1.0
PUBLISHED = {
    "jsb": {
        "Chung 2014": {"gru": 8.54, "lstm": 8.67, "rnn": 9.10},
        "Bai 2018": {"gru": 8.43, "lstm": 8.45, "rnn": 8.91},
    },
    "nottingham": {
        "Chung 2014": {"gru": 3.23, "lstm": 3.20, "rnn": 3.13},
        "Bai 2018": {"gru": 3.46, "lstm": 3.29, "rnn": 4.05},
    },
}
SCORED = 16
"""Sequences that are scored at a time."""
Sequences = list[Tensor]
Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs and targets (T, B, 88), padded, and how many steps of every row count."""


@dataclass(frozen=True)
class Setting:
    """What is tuned: the learning rate of Adam, dropout before the read-out, Gaussian noise on the weights."""

    rate: float
    dropout: float
    noise: float


@dataclass(frozen=True)
class Protocol:
    """How the networks of a data set are trained; scores are of whole sequences.

    Args:
        grid: settings that are tried. epochs, batch: how long, and how many sequences at a time.
        piece: steps that gradients go back. carried: a piece starts from the state that the one before it left, and the
            weights are updated after every piece; else every piece is a sequence of its own.
        initialise: see ``gatewise.Recurrent``. average: decay of the mean of the weights that is scored; 0 for none.
    """

    grid: tuple[Setting, ...]
    epochs: int
    batch: int
    piece: int
    carried: bool = False
    initialise: str = "torch"
    average: float = 0.0


PROTOCOLS = {
    "jsb": Protocol(
        tuple(Setting(rate, *rest) for rate in (1.5e-3, 4e-3) for rest in ((0.1, 0.03), (0.2, 0.075), (0.2, 0.1))),
        epochs=400,
        batch=16,
        piece=200,
    ),
    "nottingham": Protocol(
        (Setting(3e-3, 0.1, 0.03), Setting(6e-3, 0.1, 0.03), Setting(4e-3, 0.3, 0.03)),
        epochs=60,
        batch=8,
        piece=100,
        carried=True,
        initialise="orthogonal",
        average=0.998,
    ),
}


class Pianist(nn.Module):
    """A recurrent layer over the piano roll and a read-out with a logit for each key of the next step."""

    def __init__(self, cell: str, units: int, dropout: float, initialise: str) -> None:
        super().__init__()
        self.layer = gw.Recurrent(gw.cells.get(cell), KEYS, units, initialise=initialise)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(units, KEYS)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(T, B, 88) → logits (T, B, 88), and the state behind the last step."""
        y, state = self.layer(x, state)
        return self.head(self.dropout(y)), state


def read(folder: Path, name: str) -> dict[str, Sequences]:
    """The three parts of a data set: float (T, 88) each, ones for the keys that sound."""
    from scipy.io import loadmat

    path = folder / FILES[name]
    if not path.is_file():
        raise SystemExit(
            f"chung2014: there is no file {path}; --data must be the folder of {', '.join(FILES.values())}"
        )
    held = loadmat(str(path))
    return {
        part: [torch.from_numpy(roll.astype(np.float32)) for roll in held[f"{part}data"][0]]
        for part in ("train", "valid", "test")
    }


def pieces(sequences: Sequences, most: int) -> Sequences:
    """Cut into pieces that predict at most so many steps; neighbours share the step between them."""
    return [roll[start : start + most + 1] for roll in sequences for start in range(0, len(roll) - 1, most)]


def batches(sequences: Sequences, size: int, generator: np.random.Generator | None = None) -> Iterator[Batch]:
    """Sequences of like length; in random order with a generator."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    for k in generator.permutation(len(groups)) if generator is not None else range(len(groups)):
        chosen = [sequences[i] for i in groups[k]]
        padded = nn.utils.rnn.pad_sequence(chosen)
        yield padded[:-1], padded[1:], torch.tensor([len(roll) - 1 for roll in chosen])


def chunks(batch: Batch, steps: int) -> Iterator[Batch]:
    """The pieces of a batch in turn, as long as a row has steps left."""
    x, y, lengths = batch
    for start in range(0, len(x), steps):
        yield x[start : start + steps], y[start : start + steps], (lengths - start).clamp(0, steps)


def total(model: Callable[..., Any], batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
    """The summed negative log-likelihood of a batch, in nats, and the state behind it."""
    x, y, lengths = batch
    logits, state = model(x, state)
    losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(-1)
    return (losses * (torch.arange(len(x))[:, None] < lengths)).sum(), state


def evaluate(model: nn.Module, sequences: Sequences) -> float:
    """Nats per step over whole sequences."""
    model.eval()
    with torch.no_grad():
        nats = sum(float(total(model, batch)[0].double()) for batch in batches(sequences, SCORED))
    return nats / sum(len(roll) - 1 for roll in sequences)


class Music(CarriedObjective):
    """Nats per step of pieces, whose gradient is taken at noisy weights; validation on whole sequences."""

    metric, unit = "nats per step", "steps"

    def __init__(self, module: nn.Module, how: Protocol, noise: float, train: Sequences, valid: Sequences) -> None:
        self.module, self.how, self.noise, self.valid = module, how, noise, valid
        self.train = train if how.carried else pieces(train, how.piece)

    def batches(self, generator: np.random.Generator) -> Iterator[tuple[bool, Batch]]:
        """The pieces of an epoch, and of each whether it begins its sequences."""
        for batch in batches(self.train, self.how.batch, generator):
            for k, chunk in enumerate(chunks(batch, self.how.piece)):
                yield k == 0, chunk

    def steps(self) -> int:
        """Pieces in an epoch, whatever their order."""
        return sum(1 for _ in self.batches(np.random.default_rng(0)))

    def carried_loss(self, forward: Callable[..., Any], batch: tuple[bool, Batch], state: Any) -> tuple[Tensor, Any]:
        begins, chunk = batch
        nats, state = total(forward, chunk, None if begins else state)
        return nats / chunk[2].sum(), state

    @contextmanager
    def around_gradient(self) -> Iterator[None]:
        """Noise on the weights while their gradient is taken (Graves 2011)."""
        parameters = list(self.module.parameters()) if self.noise else []
        clean = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p in parameters:
                p.add_(torch.randn_like(p), alpha=self.noise)
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(parameters, clean, strict=True):
                    p.copy_(value)

    def validate(self) -> float:
        return evaluate(self.module, self.valid)

    def size(self, batch: tuple[bool, Batch]) -> int:
        return int(batch[1][2].sum())

    def share(self, batch: tuple[bool, Batch], rank: int, world: int) -> tuple[bool, Batch]:
        begins, (x, y, lengths) = batch
        own = own_rows(len(lengths), rank, world)
        return begins, (x[:, own], y[:, own], lengths[own])


def fit(data: dict[str, Sequences], name: str, cell: str, units: int, setting: Setting, seed: int) -> dict[str, Any]:
    """Train one network; validation and test figures of its best epoch."""
    how = PROTOCOLS[name]
    torch.manual_seed(seed)
    model = Pianist(cell, units, setting.dropout, how.initialise)
    objective = Music(model, how, setting.noise, data["train"], data["valid"])
    rates: dict[str, float] = {"warmup": 0.0, "weight_decay": 0.0, "clip_norm": CLIP, "average": how.average}
    schedule = Schedule(how.epochs, objective.steps(), setting.rate, PATIENCE, **rates)
    started = time.perf_counter()
    history = train(objective, schedule, seed)
    found = {"data": name, "cell": cell, "setting": asdict(setting), "seed": seed, "valid": history.best.value}
    size = {"units": units, "parameters": sum(p.numel() for p in model.parameters())}
    seconds = time.perf_counter() - started
    return {
        **found,
        "test": evaluate(model, data["test"]),
        **size,
        "epochs": len(history.epochs),
        "best_epoch": history.best.epoch,
        "seconds": seconds,
    }


class Results:
    """Fits by what they were, kept in a JSON file."""

    def __init__(self, path: Path, data: dict[str, Sequences], name: str) -> None:
        self.path, self.data, self.name = path, data, name
        self.fits: list[dict[str, Any]] = json.loads(path.read_text())["fits"] if path.is_file() else []

    def fit(self, cell: str, units: int, setting: Setting, seed: int) -> dict[str, Any]:
        """The fit from the file, or a new one, which goes there."""
        key = {"data": self.name, "cell": cell, "units": units, "setting": asdict(setting), "seed": seed}
        for one in self.fits:
            if key == {name: one[name] for name in key}:
                return one
        self.fits.append(fit(self.data, self.name, cell, units, setting, seed))
        write_json(self.path, {"fits": self.fits, "machine": features()})
        print(json.dumps(self.fits[-1]), flush=True)
        return self.fits[-1]

    def row(self, cell: str, units: int, grid: Sequence[Setting], seeds: int) -> list[dict[str, Any]]:
        """The fits of every seed with the setting that has the best validation figure of seed 0."""
        setting = min(grid, key=lambda s: self.fit(cell, units, s, 0)["valid"])
        return [self.fit(cell, units, setting, seed) for seed in range(seeds)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.chung2014", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/music"), help="folder of the .mat files")
    parser.add_argument("--json", type=Path, default=Path("docs/chung2014.json"), help="where every fit is kept")
    parser.add_argument("--sets", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--units", type=int, help="in place of the paper's, with the last setting alone")
    asked = parser.parse_args(arguments)
    data = {name: read(asked.data, name) for name in asked.sets}
    lines = [
        "| data | cell | units | parameters | nats per step, test | seeds | Chung 2014 | Bai 2018 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in asked.sets:
        results = Results(asked.json, data[name], name)
        for cell in asked.cells:
            units = asked.units or CELLS[cell]
            grid = PROTOCOLS[name].grid if asked.units is None else PROTOCOLS[name].grid[-1:]
            fits = results.row(cell, units, grid, asked.seeds)
            tests, count = [one["test"] for one in fits], fits[0]["parameters"]
            spread = f" ± {np.std(tests, ddof=1):.3f}" if len(tests) > 1 else ""
            theirs = [PUBLISHED[name][paper][cell] for paper in PUBLISHED[name]]
            shown = " | ".join([str(len(tests)), *(f"{value:.2f}" for value in theirs)])
            lines.append(f"| {name} | {cell} | {units} | {count:,} | {np.mean(tests):.3f}{spread} | {shown} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
