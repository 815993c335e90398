"""The comparison of Chung et al. 2014 (arXiv 1412.3555) on polyphonic music: ``python -m benches.chung2014``.

GRU, LSTM and tanh units in the numbers of the paper, on JSB chorales and Nottingham: piano rolls of 88 keys, the next
step predicted from all steps so far. The figure is the negative log-likelihood in nats: the sum over the keys, the mean
over the steps. Every cell gets the same tuning: each setting of ``GRID`` is tried with seed 0, the best validation
figure decides, and the test figure is that of the weights that were best on validation. Results are written after every
fit, and a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
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

KEYS, SEEDS = 88, 5
CELLS = {"gru": 46, "lstm": 36, "rnn": 100}
"""Units as in the paper."""
FILES = {"jsb": "JSB_Chorales.mat", "nottingham": "Nottingham.mat"}
PIECE = 200
"""Training sequences are cut into pieces of so many steps; scores are of whole sequences."""
EPOCHS = {"jsb": 400, "nottingham": 100}
BATCH, PATIENCE, CLIP = 16, 40, 1.0
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
Sequences = list[Tensor]


@dataclass(frozen=True)
class Setting:
    """What is tuned: the learning rate of Adam, dropout before the read-out, Gaussian noise on the weights."""

    rate: float
    dropout: float
    noise: float


GRID = tuple(
    Setting(rate, dropout, noise)
    for rate in (1.5e-3, 4e-3)
    for dropout, noise in ((0.1, 0.03), (0.2, 0.075), (0.2, 0.1))
)


class Pianist(nn.Module):
    """A recurrent layer over the piano roll and a read-out with a logit for each key of the next step."""

    def __init__(self, cell: str, units: int, dropout: float) -> None:
        super().__init__()
        self.layer = gw.Recurrent(gw.cells.get(cell), KEYS, units)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(units, KEYS)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, 88) → logits (T, B, 88); rows count up to their lengths."""
        logits: Tensor = self.head(self.dropout(self.layer(x, lengths=lengths)[0]))
        return logits


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


def batches(sequences: Sequences, generator: np.random.Generator | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(inputs, targets, lengths) of sequences of like length; in random order with a generator."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    for k in generator.permutation(len(groups)) if generator is not None else range(len(groups)):
        chosen = [sequences[i] for i in groups[k]]
        padded = nn.utils.rnn.pad_sequence(chosen)
        yield padded[:-1], padded[1:], torch.tensor([len(roll) - 1 for roll in chosen])


def total(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The summed negative log-likelihood of a batch, in nats."""
    x, y, lengths = batch
    losses = F.binary_cross_entropy_with_logits(model(x, lengths), y, reduction="none").sum(-1)
    return (losses * (torch.arange(len(x))[:, None] < lengths)).sum()


def evaluate(model: nn.Module, sequences: Sequences) -> float:
    """Nats per step over whole sequences."""
    model.eval()
    with torch.no_grad():
        nats = sum(float(total(model, batch).double()) for batch in batches(sequences, None))
    return nats / sum(len(roll) - 1 for roll in sequences)


def step(
    model: nn.Module, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor], noise: float
) -> None:
    """One step of the optimiser, with the gradient taken at noisy weights."""
    parameters = list(model.parameters())
    clean = [p.detach().clone() for p in parameters] if noise else []
    with torch.no_grad():
        for p in parameters if noise else ():
            p.add_(torch.randn_like(p), alpha=noise)
    optimiser.zero_grad()
    (total(model, batch) / batch[2].sum()).backward()
    with torch.no_grad():
        for p, value in zip(parameters, clean, strict=False):
            p.copy_(value)
    nn.utils.clip_grad_norm_(parameters, CLIP)
    optimiser.step()


def fit(data: dict[str, Sequences], name: str, cell: str, setting: Setting, seed: int) -> dict[str, Any]:
    """Train one network; validation and test figures of its best epoch."""
    torch.manual_seed(seed)
    model = Pianist(cell, CELLS[cell], setting.dropout)
    optimiser = torch.optim.Adam(model.parameters(), lr=setting.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS[name])
    train, generator = pieces(data["train"], PIECE), np.random.default_rng(seed)
    best, kept, at, started = math.inf, copy.deepcopy(model.state_dict()), 0, time.perf_counter()
    for epoch in range(EPOCHS[name]):
        model.train()
        for batch in batches(train, generator):
            step(model, optimiser, batch, setting.noise)
        schedule.step()
        value = evaluate(model, data["valid"])
        if value < best:
            best, kept, at = value, copy.deepcopy(model.state_dict()), epoch
        if epoch - at >= PATIENCE:
            break
    model.load_state_dict(kept)
    found = {"data": name, "cell": cell, "setting": asdict(setting), "seed": seed, "valid": best}
    size = {"units": CELLS[cell], "parameters": sum(p.numel() for p in model.parameters())}
    seconds = time.perf_counter() - started
    return {
        **found,
        "test": evaluate(model, data["test"]),
        **size,
        "epochs": epoch + 1,
        "best_epoch": at + 1,
        "seconds": seconds,
    }


class Results:
    """Fits by what they were, kept in a JSON file."""

    def __init__(self, path: Path, data: dict[str, Sequences], name: str) -> None:
        self.path, self.data, self.name = path, data, name
        self.fits: list[dict[str, Any]] = json.loads(path.read_text())["fits"] if path.is_file() else []

    def fit(self, cell: str, setting: Setting, seed: int) -> dict[str, Any]:
        """The fit from the file, or a new one, which goes there."""
        key = {"data": self.name, "cell": cell, "setting": asdict(setting), "seed": seed}
        for one in self.fits:
            if key == {name: one[name] for name in key}:
                return one
        self.fits.append(fit(self.data, self.name, cell, setting, seed))
        write_json(self.path, {"fits": self.fits, "machine": features()})
        print(json.dumps(self.fits[-1]), flush=True)
        return self.fits[-1]

    def row(self, cell: str, seeds: int) -> tuple[Setting, list[float]]:
        """The setting with the best validation figure of seed 0, and its test figures."""
        setting = min(GRID, key=lambda s: self.fit(cell, s, 0)["valid"])
        return setting, [self.fit(cell, setting, seed)["test"] for seed in range(seeds)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.chung2014", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/music"), help="folder of the .mat files")
    parser.add_argument("--json", type=Path, default=Path("docs/chung2014.json"), help="where every fit is kept")
    parser.add_argument("--sets", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args(arguments)
    data = {name: read(asked.data, name) for name in asked.sets}
    lines = [
        "| data | cell | units | parameters | nats per step, test | Chung 2014 | Bai 2018 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in asked.sets:
        results = Results(asked.json, data[name], name)
        for cell in asked.cells:
            setting, tests = results.row(cell, asked.seeds)
            spread = f" ± {np.std(tests, ddof=1):.3f}" if len(tests) > 1 else ""
            theirs = [PUBLISHED[name][paper][cell] for paper in PUBLISHED[name]]
            count = results.fit(cell, setting, 0)["parameters"]
            shown = " | ".join(f"{value:.2f}" for value in theirs)
            lines.append(f"| {name} | {cell} | {CELLS[cell]} | {count:,} | {np.mean(tests):.3f}{spread} | {shown} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
