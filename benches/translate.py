"""English to French on Multi30k: ``python -m benches.translate``. A row is a network, a formula and a seed.

Rows are trained one after the other, the most telling first; each keeps its run in a directory of its own and goes on
where it was stopped, and its figures are added to the JSON file when it is done. ``--speed`` times training and
decoding of one network on Gatewise's layers and on torch's instead; ``--table`` prints what the JSON file holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benches import machine
from gatewise.compiler import Cell
from gatewise.study.compare import solve
from gatewise.tasks.base import cell_of
from gatewise.tasks.folder import write_json
from gatewise.tasks.progress import Progress
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.network import TranslationNetwork
from gatewise.tasks.translate.pairs import Pairs, read_pairs

DATA = Path("../shared/data/multi30k")
GOALS = {"test": 52.4, "validation, tokenised": 57.96}
SIZES = {"hidden_size": 320, "embedding_size": 192, "vocabulary_size": 5000, "batch_size": 64, "dropout": 0.3}
SIZES |= {"learning_rate": 1.5e-3, "epochs": 16}
PIECES = 5000


class TorchLayer(nn.Module):
    """A layer of ``torch.nn`` with the calls that the network makes."""

    def __init__(self, cell: Cell, width: int, units: int, layers: int, bidirectional: bool = False) -> None:
        super().__init__()
        kinds: dict[str, Any] = {"gru_reset_after": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
        self.cell = cell
        self.layer = kinds[cell.name](width, units, layers, bidirectional=bidirectional)

    def forward(self, x: Tensor, start: Any = None, *, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        if lengths is None:
            return self.layer(x, start)
        packed, final = self.layer(pack_padded_sequence(x, lengths, enforce_sorted=False), start)
        return pad_packed_sequence(packed, total_length=len(x))[0], final

    def stream(self, rows: int) -> TorchStream:
        return TorchStream(self)


class TorchStream:
    """One step at a time, by sequences of one step."""

    def __init__(self, layer: TorchLayer) -> None:
        self.layer, self.state = layer, None

    def step(self, x: Tensor) -> Tensor:
        y, self.state = self.layer(x.unsqueeze(0), self.state)
        return y[0]


class TorchTranslator(Translator):
    """The same on torch's layers."""

    layers = TorchLayer


def rows(seeds: int) -> list[dict[str, Any]]:
    """What is trained, the most telling first."""
    found: list[dict[str, Any]] = []
    for seed in range(seeds):
        found += [
            {"layers": "gatewise", "cell": "gru", "decoder": "attention", "text": "raw"},
            {"layers": "gatewise", "cell": "gru", "decoder": "final", "text": "raw"},
            {"layers": "torch", "cell": "gru_reset_after", "decoder": "attention", "text": "raw"},
            {"layers": "gatewise", "cell": "gru_reset_after", "decoder": "attention", "text": "raw"},
            {"layers": "torch", "cell": "lstm", "decoder": "attention", "text": "raw"},
            {"layers": "gatewise", "cell": "lstm", "decoder": "attention", "text": "raw"},
            {"layers": "gatewise", "cell": "rnn", "decoder": "attention", "text": "raw"},
            {"layers": "gatewise", "cell": "gru", "decoder": "attention", "text": "tokenised"},
        ]
        for row in found[-8:]:
            row["seed"] = seed
    return found


def name_of(row: dict[str, Any]) -> str:
    return "-".join(str(row[key]) for key in ("layers", "cell", "decoder", "text", "seed"))


def pairs(folder: Path, part: str, text: str) -> Pairs:
    """A part of the data, with its cases and spaces or as its authors tokenised it."""
    middle = "" if text == "raw" else ".lc.norm.tok"
    names = [folder / f"{part}{middle}.{side}.gz" for side in ("en", "fr")]
    for name in names:
        if not name.exists():
            raise SystemExit(f"--data must be the folder of Multi30k, but {name} does not exist")
    return read_pairs((names[0], names[1]))


def parameters(cell: str, units: int, row: dict[str, Any]) -> int:
    """Of the network with so many units."""
    sizes = SIZES["embedding_size"], units // 2, units
    network = TranslationNetwork(cell_of(cell), None, PIECES, *map(int, sizes), 1, row["decoder"], 0.0)
    return sum(p.numel() for p in network.parameters())


def units_of(row: dict[str, Any]) -> int:
    """Units with which the row has the parameters of the GRU, to the nearest even number."""
    target = parameters("gru", int(SIZES["hidden_size"]), row)
    return 2 * solve(lambda half: parameters(row["cell"], 2 * half, row), target)


def train(row: dict[str, Any], folder: Path, runs: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train a row, or go on with it, and measure it."""
    kind = Translator if row["layers"] == "gatewise" else TorchTranslator
    run = runs / name_of(row)
    settings = {**SIZES, **options, "hidden_size": units_of(row), "decoder": row["decoder"], "seed": row["seed"]}
    training, validation = (pairs(folder, part, row["text"]) for part in ("train", "val"))
    if (run / "config.json").exists():
        translator = kind.resume(run, report=Progress)
    else:
        translator = kind(cell=row["cell"], **settings).fit(
            training, validation=validation, directory=run, report=Progress
        )
    test = translator.evaluate(pairs(folder, "test_2016_flickr", row["text"]), beam_size=5)
    found = {
        **row,
        "hidden_size": settings["hidden_size"],
        "parameters": sum(p.numel() for p in translator.network.parameters()),
        "epochs": len(translator.history.epochs),
        "seconds": sum(epoch.seconds for epoch in translator.history.epochs),
        "test": test.scores,
        "test by length": test.by_length,
        "validation": plain_bleu(translator.translate(list(validation.source)), list(validation.target), row["text"]),
    }
    return {**found, "machine": machine.features()}


def plain_bleu(found: list[str], wanted: list[str], text: str) -> float:
    """BLEU as sacreBLEU cuts words, or of the tokens as they are."""
    import sacrebleu

    return float(sacrebleu.corpus_bleu(found, [wanted], tokenize="13a" if text == "raw" else "none", force=True).score)


def speed(folder: Path, rounds: int, cells: list[str]) -> dict[str, Any]:
    """Tokens a second of training and sentences a second of decoding, on both kinds of layers in turns.

    With one thread the least processor time of some rounds counts, else the least time that passed.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    training, test = pairs(folder, "train", "raw"), pairs(folder, "test_2016_flickr", "raw")
    reader = Translator(**SIZES)
    reader.read(training, test)
    shared = {name: getattr(reader, name) for name in ("pairs", "vocabularies", "_options")}
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "machine": machine.features()}
    for cell in cells:
        best: dict[str, list[float]] = {}
        jobs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
        tokens = 0
        for name, kind in (("gatewise", Translator), ("torch", TorchTranslator)):
            translator = kind(cell=cell, **SIZES)
            vars(translator).update(shared)
            translator._untrained()
            objective, module = translator.objective(), translator.network.train()
            optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
            batches = objective.batches(np.random.default_rng(0))
            chosen = [next(batches) for _ in range(4)]
            tokens = sum(objective.size(batch) for batch in chosen)

            def step(
                objective: Any = objective, module: Any = module, optimizer: Any = optimizer, some: Any = chosen
            ) -> None:
                module.train()
                for batch in some:
                    optimizer.zero_grad()
                    objective.loss(module, batch).backward()
                    optimizer.step()

            def decode(translator: Translator = translator, module: Any = module) -> None:
                module.eval()
                translator.translate(list(test.source[:100]), beam_size=5, max_length=16)

            jobs[name] = step, decode
        for _ in range(rounds):
            for name, (step_, decode_) in jobs.items():
                for k, job in enumerate((step_, decode_)):
                    started = clock()
                    job()
                    least = best.setdefault(name, [float("inf")] * 2)
                    least[k] = min(least[k], clock() - started)
        found[cell] = {n: {"tokens/s": tokens / t, "sentences/s": 100 / d} for n, (t, d) in best.items()}
    return found


def table(results: list[dict[str, Any]]) -> str:
    """The results as a page shows them: means over seeds, with the spread."""
    lines = ["| layers | cell | decoder | text | units | parameters | seeds | test BLEU | validation BLEU |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        groups.setdefault(name_of({**one, "seed": ""}), []).append(one)
    for own in groups.values():
        first = own[0]
        cells = [first[key] for key in ("layers", "cell", "decoder", "text", "hidden_size")]
        figures = [_spread([next(iter(one["test"].values()))["BLEU"] for one in own])]
        figures.append(_spread([one["validation"] for one in own]))
        lines.append("| " + " | ".join(map(str, [*cells, f"{first['parameters']:,}", len(own), *figures])) + " |")
    for name in ("dictionary", "copy"):
        raw = next((one for one in results if one["text"] == "raw"), None)
        if raw is not None:
            lines.append(f"| | {name} | | raw | | | | {raw['test'][name]['BLEU']:.1f} | |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    more = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{more}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=Path, default=Path("runs/multi30k"), help="where the rows keep their runs")
    parser.add_argument("--json", type=Path, default=Path("runs/multi30k.json"), help="where the figures are added")
    parser.add_argument("--rows", default="", help="only rows whose name has this in it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=SIZES["epochs"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", default="gru_reset_after,lstm", help="for --speed")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.speed:
        print(json.dumps(speed(asked.data, asked.rounds, asked.cells.split(",")), indent=2))
        return
    results = json.loads(asked.json.read_text()) if asked.json.exists() else []
    done = {name_of(one) for one in results}
    for row in [] if asked.table else rows(asked.seeds):
        if asked.rows in name_of(row) and name_of(row) not in done:
            print(name_of(row), file=sys.stderr)
            results.append(train(row, asked.data, asked.runs, {"epochs": asked.epochs}))
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(asked.json, results)
    print(table(results))


if __name__ == "__main__":
    main()
