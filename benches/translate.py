"""English to French on Multi30k: ``python -m benches.translate``. A row is a network, a formula and a seed.

Rows are trained one after the other, the most telling first; each keeps its run in a directory of its own and goes on
where it was stopped, and its figures are added to the JSON file when it is done. ``--speed`` times training and
decoding of one network on Gatewise's layers and on torch's instead, and adds that; ``--table`` prints what the file
holds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benches import machine
from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.study.compare import solve
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.folder import write_json
from gatewise.tasks.machines import PRECISIONS
from gatewise.tasks.progress import Progress
from gatewise.tasks.text.vocabulary import END
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.network import TranslationNetwork
from gatewise.tasks.translate.pairs import Pairs, read_pairs

DATA = Path("../shared/data/multi30k")
GOALS = {"test": 52.4, "validation, tokenised": 57.96}
SIZES: dict[str, Any] = {
    "hidden_size": 256,
    "embedding_size": 192,
    "vocabulary_size": 5000,
    "batch_size": 64,
    "dropout": 0.2,
}
SIZES |= {"learning_rate": 2e-3, "epochs": 12}
PIECES = 5000
PRECISION = "bf16-mixed"
SENTENCES, PIECES_WRITTEN = 100, 16
"""Translated for --speed."""


class TorchLayer(nn.Module):
    """A layer of ``torch.nn`` with the calls that the network makes, and the first weights that Gatewise's would have.

    torch adds two biases where one is enough; the second starts at zero.
    """

    def __init__(
        self, cell: Cell, width: int, units: int, layers: int, bidirectional: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        kinds: dict[str, Any] = {"gru_reset_after": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
        self.cell = cell
        with torch.random.fork_rng(devices=[]):
            self.layer = kinds[cell.name](width, units, layers, bidirectional=bidirectional, dropout=dropout)
        own = dict(Recurrent(cell, width, units, layers, bidirectional=bidirectional).named_parameters())
        with torch.no_grad():
            for name, parameter in self.layer.named_parameters():
                parameter.zero_()
                if name in own:
                    parameter[-len(own[name]) :] = own[name]  # of a second bias, the candidate's

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
            row |= {key: SIZES[key] for key in ("epochs", "dropout", "embedding_size")}
            row |= {"gru": SIZES["hidden_size"], "seed": seed}
    return found


def name_of(row: dict[str, Any]) -> str:
    """Of a row and its run: what is trained, epochs, dropout, units of the GRU that has its parameters, seed."""
    return "-".join(str(row[key]) for key in ("layers", "cell", "decoder", "text", "epochs", "dropout", "gru", "seed"))


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


def train(row: dict[str, Any], folder: Path, runs: Path) -> dict[str, Any]:
    """Train a row, or go on with it, and measure it."""
    kind = Translator if row["layers"] == "gatewise" else TorchTranslator
    run = runs / name_of(row)
    settings = {**SIZES, "hidden_size": units_of(row), **{key: row[key] for key in ("decoder", "seed")}}
    settings["precision"] = PRECISION
    started, resumed = time.process_time(), (run / "config.json").exists()
    training, validation = (pairs(folder, part, row["text"]) for part in ("train", "val"))
    if resumed:
        translator = kind.resume(run, report=Progress)
    else:
        translator = kind(cell=row["cell"], **settings).fit(
            training, validation=validation, directory=run, report=Progress
        )
    seconds = None if resumed else time.process_time() - started
    test = translator.evaluate(pairs(folder, "test_2016_flickr", row["text"]), beam_size=5)
    found = {
        **row,
        "hidden_size": settings["hidden_size"],
        "parameters": sum(p.numel() for p in translator.network.parameters()),
        "precision": PRECISION,
        "processor seconds": seconds,  # of all threads, validation included
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
        jobs: dict[tuple[str, str], tuple[Callable[[], object], float]] = {}
        for name, kind in (("gatewise", Translator), ("torch", TorchTranslator)):
            translator = kind(cell=cell, **SIZES)
            vars(translator).update(shared)
            translator._untrained()
            jobs |= {(what, name): job for what, job in _jobs(translator, list(test.source[:SENTENCES])).items()}
        best = dict.fromkeys(jobs, math.inf)
        for _ in range(rounds):
            for key, (job, _) in jobs.items():
                started = clock()
                job()
                best[key] = min(best[key], clock() - started)
        found[cell] = {what: {n: jobs[w, n][1] / best[w, n] for w, n in jobs if w == what} for what, _ in jobs}
    return found


def _jobs(translator: Translator, texts: list[str]) -> dict[str, tuple[Callable[[], object], float]]:
    """What is timed of a translator, and how many tokens or sentences that is."""
    objective, module = translator.objective(), translator.network
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    batches = objective.batches(np.random.default_rng(0))
    chosen = [next(batches) for _ in range(4)]

    def step(mixed: bool) -> None:
        module.train()
        for batch in chosen:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, mixed):
                loss = objective.loss(module, batch)
            loss.backward()
            optimizer.step()

    def decode() -> None:
        module.eval()
        with torch.no_grad():
            module.bias[END] = -100.0  # untrained networks end anywhere; all are to write as much
        translator.translate(texts, beam_size=5, max_length=PIECES_WRITTEN)

    tokens = sum(objective.size(batch) for batch in chosen)
    found: dict[str, tuple[Callable[[], object], float]] = {"sentences/s": (decode, len(texts))}
    for precision in PRECISIONS:
        found[f"tokens/s, {precision}"] = partial(step, precision != PRECISIONS[0]), tokens
    return found


def table(results: list[dict[str, Any]]) -> str:
    """The results as a page shows them: means over seeds, with the spread; CPU minutes of one training."""
    names = ["text", "epochs", "dropout", "decoder", "cell", "layers", "units", "parameters"]
    names += ["seeds", "CPU min", "test", "validation"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for own in grouped(results).values():
        first = own[0]
        cells = [first[key] for key in ("text", "epochs", "dropout", "decoder", "cell", "layers", "hidden_size")]
        times = [one["processor seconds"] / 60 for one in own if one["processor seconds"]]
        figures = [f"{statistics.mean(times):.1f}" if times else ""]
        figures.append(_spread([score_of(one["test"]) for one in own]))
        figures.append(_spread([one["validation"] for one in own]))
        lines.append("| " + " | ".join(map(str, [*cells, f"{first['parameters']:,}", len(own), *figures])) + " |")
    for text in ("raw", "tokenised"):
        for name in ("dictionary", "copy"):
            one = next((one for one in results if one["text"] == text), None)
            if one is not None:
                lines.append(f"| {text} | | | | {name} | | | | | | {one['test'][name]['BLEU']:.1f} | |")
    return "\n".join(lines)


def length_table(results: list[dict[str, Any]]) -> str:
    """BLEU on raw text by length of the source, of the GRU with attention and without."""
    chosen = [own[0] for own in grouped(results).values() if own[0]["text"] == "raw" and own[0]["cell"] == "gru"]
    names = [f"{one['decoder']}, {one['epochs']} epochs" for one in chosen]
    lines = ["| source | pairs | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for title, figures in chosen[0]["test by length"].items() if chosen else ():
        found = [f"{score_of(one['test by length'][title], 'gru'):.1f}" for one in chosen]
        lines.append(f"| {title} | {figures['pairs']:.0f} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def speed_table(results: list[dict[str, Any]]) -> str:
    """Rates on both kinds of layers."""
    lines = ["| cell | threads | | Gatewise | torch | ratio |", "|---" * 6 + "|"]
    for one in results:
        for cell in ("gru_reset_after", "lstm"):
            for what, rates in one.get(cell, {}).items():
                own, other = rates["gatewise"], rates["torch"]
                lines.append(f"| {cell} | {one['threads']} | {what} | {own:,.0f} | {other:,.0f} | {own / other:.2f} |")
    return "\n".join(lines)


def tables(kept: dict[str, Any]) -> list[str]:
    """All that a page shows of what was kept."""
    return [table(kept["rows"]), length_table(kept["rows"]), speed_table(kept["speed"])]


def grouped(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows that differ in the seed alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        groups.setdefault(name_of({**one, "seed": ""}), []).append(one)
    return groups


def score_of(scores: dict[str, Any], name: str | None = None) -> float:
    """BLEU of the network, which stands first."""
    found = next(iter(scores.values())) if name is None else scores[name]
    return float(found["BLEU"] if isinstance(found, dict) else found)


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
    for name in ("epochs", "hidden_size", "embedding_size", "dropout"):
        parser.add_argument(f"--{name}", type=type(SIZES[name]), default=SIZES[name])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", default="gru_reset_after,lstm", help="for --speed")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    SIZES.update({name: getattr(asked, name) for name in SIZES if hasattr(asked, name)})
    kept: dict[str, Any] = {"rows": [], "speed": []}
    if asked.json.exists():
        kept = json.loads(asked.json.read_text())

    def keep() -> None:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(asked.json, kept)

    if asked.speed:
        others = [one for one in kept["speed"] if one["threads"] != asked.threads]
        kept["speed"] = [*others, speed(asked.data, asked.rounds, asked.cells.split(","))]
        keep()
    done = {name_of(one) for one in kept["rows"]}
    for row in [] if asked.table or asked.speed else rows(asked.seeds):
        if asked.rows in name_of(row) and name_of(row) not in done:
            print(name_of(row), file=sys.stderr)
            kept["rows"].append(train(row, asked.data, asked.runs))
            keep()
    print("\n\n".join(tables(kept)))


if __name__ == "__main__":
    main()
