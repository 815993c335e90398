"""GRU-D beside the GRU with imputed values, on Beijing's air with values removed: ``python -m benches.gaps``.

Hourly PM2.5 (its logarithm) and weather, 2010 to 2014; from every variable by itself outages are cut, of geometric
lengths. A network reads what is left and says at every hour the PM2.5 some hours later. Training is on the first 70 %
of the hours, the epoch is chosen on the next 15 %, and scores are of the last 15 %, where the PM2.5 was measured.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import gatewise as gw

COLUMNS = ("pm2.5", "DEWP", "TEMP", "PRES", "Iws")
STEPS, BURN_IN, BATCH, UPDATES = 96, 24, 64, 20
"""Hours of a training window, of these without a say in the loss, windows of an update, updates of an epoch."""


@dataclass(frozen=True)
class Data:
    """Standardised by the mean and deviation of what training sees; time first, one row."""

    full: gw.nn.Gaps
    """Before values were removed."""
    left: gw.nn.Gaps
    target: Tensor
    """(T, 1), NaN where it was not measured."""
    mean: float
    deviation: float
    """Of the logarithm of PM2.5."""
    cuts: tuple[int, int]
    """Where validation and test begin."""


def read(path: Path) -> Tensor:
    """(hours, variables): log(1 + PM2.5), NaN where it is missing, and the weather."""
    if not path.exists():
        raise SystemExit(f"--data must be the Beijing PM2.5 table (pollution.csv.gz), but {path} does not exist")
    with gzip.open(path, "rt") as file:
        rows = [[float("nan" if row[c] == "NA" else row[c]) for c in COLUMNS] for row in csv.DictReader(file)]
    table = torch.tensor(rows, dtype=torch.float64)
    for k, name in enumerate(COLUMNS):
        if name in ("pm2.5", "Iws"):
            table[:, k] = table[:, k].log1p()
    return table


def outages(hours: int, variables: int, share: float, length: float) -> Tensor:
    """Which values are removed: in each variable runs of that mean length, so that that share of all is gone."""
    random = torch.Generator().manual_seed(0)
    gone = torch.zeros(hours, variables, dtype=torch.bool)
    for k in range(variables):
        at, present = 0, True
        while at < hours:
            mean = length * (1 - share) / share if present else length
            run = 1 + int(math.log(1 - torch.rand((), generator=random).item()) / math.log1p(-1 / max(mean, 1.001)))
            gone[at : at + run, k] = not present
            at, present = at + run, not present
    return gone


def prepare(table: Tensor, share: float, length: float, ahead: int) -> Data:
    cuts = int(0.7 * len(table)), int(0.85 * len(table))
    seen = table.masked_fill(outages(*table.shape, share, length), torch.nan)
    train = seen[: cuts[0]]
    mean = train.nanmean(0)
    deviation = (train - mean).square().nanmean(0).sqrt()
    full, left = (gw.gaps(((t - mean) / deviation).float()[:, None]) for t in (table, seen))
    later = torch.cat([table[ahead:, 0], table.new_full((ahead,), torch.nan)])
    for cut in cuts:
        later[cut - ahead : cut] = torch.nan  # no forecast reaches into the part behind its own
    target = ((later - mean[0]) / deviation[0]).float()[:, None]
    return Data(full, left, target, float(mean[0]), float(deviation[0]), cuts)


def filled(g: gw.nn.Gaps) -> Tensor:
    """The last observation carried forward, the mean before the first."""
    return torch.where(g.mask > 0, g.x, g.last)


def told(g: gw.nn.Gaps) -> Tensor:
    """Carried forward, beside mask and time gap (in days)."""
    return torch.cat([filled(g), g.mask, g.gap / 24], -1)


class Network(nn.Module):
    """A recurrent layer and a linear read-out."""

    def __init__(self, layer: gw.Recurrent) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, 1)

    def forward(self, x: Tensor, **inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.layer(x, **inputs)[0]).squeeze(-1)
        return found


def gru_d(width: int, units: int) -> gw.Recurrent:
    layer = gw.Recurrent(gw.cells.gru_d, width, units)
    nn.init.zeros_(layer.vector_mean_l0).requires_grad_(False)  # the empirical mean, as in the paper
    return layer


Inputs = Callable[[Data], dict[str, Tensor]]
WAYS: dict[str, tuple[Callable[[int, int], gw.Recurrent], Inputs]] = {
    "gru_d": (gru_d, lambda d: {"x": d.left.x, **d.left.inputs, "gap": d.left.gap / 24}),
    "gru, forward fill, mask, gap": (gw.GRU, lambda d: {"x": told(d.left)}),
    "gru, forward fill": (gw.GRU, lambda d: {"x": filled(d.left)}),
    "gru, mean": (gw.GRU, lambda d: {"x": d.left.x}),
    "gru, nothing removed": (gw.GRU, lambda d: {"x": filled(d.full)}),
}


def scores(found: Tensor, data: Data, part: slice) -> tuple[float, float]:
    """Mean squared error in standardised units, and mean absolute error in µg/m³, over the hours of a part."""
    present = ~data.target[part].isnan()
    found, target = found[present], data.target[part][present]
    found_air, air = ((v * data.deviation + data.mean).expm1() for v in (found, target))
    return (found - target).square().mean().item(), (found_air - air).abs().mean().item()


def train(way: str, data: Data, units: int, epochs: int, seed: int) -> tuple[float, float]:
    """Scores on the test hours, of the weights that were best on the validation hours."""
    torch.manual_seed(seed)
    make, pick = WAYS[way]
    inputs = pick(data)
    network = Network(make(inputs["x"].shape[-1], units))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    validation, test = slice(*data.cuts), slice(data.cuts[1], None)
    best, result = math.inf, (math.nan, math.nan)
    for _ in range(epochs):
        for _ in range(UPDATES):
            starts = torch.randint(0, data.cuts[0] - STEPS, (BATCH,))
            hours = starts + torch.arange(STEPS)[:, None]
            batch = {name: value[:, 0][hours] for name, value in inputs.items()}
            found, target = network(**batch)[BURN_IN:], data.target[:, 0][hours][BURN_IN:]
            loss = (found - target)[~target.isnan()].square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            found = network(**inputs)
        error, _ = scores(found[validation], data, validation)
        if error < best:
            best, result = error, scores(found[test], data, test)
    return result


def persistence(data: Data) -> tuple[float, float]:
    """The PM2.5 that was last observed, as the forecast."""
    test = slice(data.cuts[1], None)
    return scores(filled(data.left)[test, :, 0], data, test)


def line(way: str, results: Sequence[tuple[float, float]], parameters: int, seconds: float) -> str:
    columns = [[r[k] for r in results] for k in (0, 1)]
    spread = [f" ± {statistics.stdev(c):.3f}" if len(c) > 1 else "" for c in columns]
    texts = [f"{statistics.mean(c):.3f}{s}" for c, s in zip(columns, spread, strict=True)]
    return f"{way:30} {parameters:10,} {texts[0]:>15} {texts[1]:>17} {seconds:8.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path("../shared/data/univariate/pollution.csv.gz")
    parser.add_argument("--data", type=Path, default=default, help="pollution.csv.gz of jbrownlee/Datasets")
    parser.add_argument("--removed", type=float, default=0.6, help="share of all values")
    parser.add_argument("--length", type=float, default=8.0, help="hours of an outage, on average")
    parser.add_argument("--ahead", type=int, default=6, help="hours from what is read to what is said")
    parser.add_argument("--hidden-size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args(arguments)
    data = prepare(read(given.data), given.removed, given.length, given.ahead)
    print(f"removed: {1 - data.left.mask.mean():.0%} of all values; {given.ahead} hours ahead; {given.seeds} seeds")
    print(f"{'':30} {'parameters':>10} {'MSE':>15} {'MAE µg/m³':>17} {'s/seed':>8}")
    for way, (make, pick) in WAYS.items():
        start = time.perf_counter()
        results = [train(way, data, given.hidden_size, given.epochs, seed) for seed in range(given.seeds)]
        width = pick(data)["x"].shape[-1]
        count = sum(p.numel() for p in make(width, given.hidden_size).parameters())
        print(line(way, results, count, (time.perf_counter() - start) / given.seeds), flush=True)
    print(line("last observation", [persistence(data)], 0, 0.0))


if __name__ == "__main__":
    main(sys.argv[1:])
