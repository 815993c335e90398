"""Error rates of transcribers on AN4: ``python -m benches.transcribe DATA --seeds 0 1 -- --cell lstm``.

DATA holds {train,test}.tar with FLAC files and {train,test}.tsv beside them, or is ``embedded`` for the same recordings
as they come with the package. What stands behind ``--`` are options of ``gatewise fit transcribe``. Seven speakers are
held out of the training part. Searches write words of the training's transcripts alone, with a model of n-grams of
these transcripts, whose order and weights are chosen by the seven speakers alone. Words and characters are counted over
the whole test part, spaces among the characters. ``unseen`` leaves out what was said word for word in the training part
too. Figures are added to a JSON file after each seed; with ``--runs`` a training that was interrupted is gone on with.
With ``--all`` the seven are trained on too, and the search has the order and weights of the same training without them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import gatewise as gw
from benches import machine
from benches.translate import TorchLayer
from gatewise.tasks.folder import CONFIG, write_json
from gatewise.tasks.options import types_of
from gatewise.tasks.transcribe.embedded import embedded
from gatewise.tasks.transcribe.metrics import Evaluation, word_errors
from gatewise.tasks.transcribe.options import EPOCHS, TranscribeOptions
from gatewise.tasks.transcribe.recordings import Recordings, held_out, recordings
from gatewise.tasks.transcribe.sound import read

ORDERS, WEIGHTS, BONUSES = (2, 3), (0.1, 0.2, 0.3, 0.4, 0.55, 0.7), (0.0, 1.0, 2.0, 3.0, 4.0)
RESULTS = Path("docs/speech.json")
TRAINING = "data", "share", "layers", "options", "seed", "all", "searched"
"""What tells one row from another."""
WAYS = {"greedy": "the likeliest letters", "search": "with the words and an n-gram model of the transcripts"}
RATES = {"WER": "word errors", "CER": "character errors", "unseen WER": "word errors where the text is new"}
SEARCH: dict[str, Any] = {"lm": "transcripts", "lm_unit": "word", "beam": 32}
LONG = {"epochs": 160, "normalise": "speaker", "speeds": "0.88,0.94,1,1.06,1.12", "patience": 1000}
"""Options of the trainings whose seeds stand one by one in the docs."""


class TorchTranscriber(gw.Transcriber):
    """The same on torch's layers, which start as torch's do."""

    layers = TorchLayer

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"initialise": "torch", **options})


def parts(data: str, share: int) -> tuple[Recordings, Recordings, Recordings]:
    """Training, validation and test recordings; of the training part every ``share``-th."""
    if data == "embedded":
        whole, test = embedded()
    else:
        whole, test = (recordings(Path(data) / f"{part}.tsv").utterances for part in ("train", "test"))
    training, held = held_out(whole)
    return Recordings(training[::share]), Recordings(held), Recordings(test)


def unseen(found: Evaluation, training: Recordings) -> float:
    """The word error rate, in per cent, of what was not said word for word in the training part."""
    known = {one.text for one in training.utterances}
    rows = zip(found.said, next(iter(found.written.values())), strict=True)
    new = [(said, written) for said, written in rows if said not in known]
    return word_errors([said for said, _ in new], [written for _, written in new]).rate


def figures(found: Evaluation, training: Recordings) -> dict[str, float]:
    """Of the model alone."""
    own = next(iter(found.scores.values()))
    return {"WER": own["WER"], "CER": own["CER"], "unseen WER": unseen(found, training)}


def measured(
    data: tuple[Recordings, Recordings, Recordings],
    model: gw.Transcriber,
    run: Path | None = None,
    chosen: dict[str, Any] | None = None,
    searched: bool = True,
) -> dict[str, Any]:
    """A training: its error rates on the test part, where ``searched`` with a language model too, and times in seconds.
    Without ``chosen``, order and weights of the search, the held-out part chooses them; with them it is trained on as
    well."""
    training, held, test = data
    trained = training if chosen is None else Recordings([*training.utterances, *held.utterances])
    if run is not None and (run / CONFIG).exists():
        model = type(model).resume(run, trained, validation=held)
    else:
        model.fit(trained, validation=held, directory=run)
    held_out_rate = {} if chosen is not None else {"held-out WER": model.history.kept.value}
    searches = found_by_search(model, training, held, test, trained, chosen) if searched else {}
    started = time.perf_counter()
    plain = model.evaluate(test)
    took = time.perf_counter() - started
    sound = sum(len(read(one.clip, model.options.sample_rate)) for one in test.utterances) / model.options.sample_rate
    return {
        "greedy": figures(plain, training),
        **searches,
        "epochs": len(model.history.epochs),
        "kept epoch": model.history.kept.epoch,
        **held_out_rate,
        "parameters": sum(one.numel() for one in model.fitted().parameters()),
        "training seconds": sum(epoch.seconds for epoch in model.history.epochs),
        "epoch seconds": statistics.median(epoch.seconds for epoch in model.history.epochs),
        "real-time factor": took / sound,
    }


def found_by_search(
    model: gw.Transcriber,
    training: Recordings,
    held: Recordings,
    test: Recordings,
    trained: Recordings,
    chosen: dict[str, Any] | None,
) -> dict[str, Any]:
    """Error rates with the words and an n-gram model of what was trained on, and order and weights of that search."""
    search = {**SEARCH, "words": sorted({word for one in trained.utterances for word in one.text.split()})}
    if chosen is None:
        grid = [
            {"lm_order": order, "lm_weight": weight, "word_bonus": bonus}
            for order, weight, bonus in itertools.product(ORDERS, WEIGHTS, BONUSES)
        ]
        chosen = min(grid, key=lambda how: figures(model.evaluate(held, **search, **how), training)["WER"])
    return {"search": figures(model.evaluate(test, **search, **chosen), training), "chosen": chosen}


def asked(words: list[str]) -> dict[str, Any]:
    """Options as on the command line of ``gatewise fit``: names and values in turn."""
    kinds = types_of(TranscribeOptions)
    names = [word.removeprefix("--").replace("-", "_") for word in words[::2]]
    if len(words) % 2 or any(name not in kinds for name in names):
        raise SystemExit(f"expected options of gatewise fit transcribe, each with its value, got {' '.join(words)}")
    texts = (int, float)
    return {
        name: kinds[name](value) if kinds[name] in texts else value == "True" if kinds[name] is bool else value
        for name, value in zip(names, words[1::2], strict=True)
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Error rates of the seeds of one training, and their mean with its standard deviation, for the docs."""
    lines = ["| | seed | " + " | ".join(RATES.values()) + " |", "|" + "---|" * (2 + len(RATES))]
    for way, said in WAYS.items():
        lines += [_line(said, str(row["seed"]), [row[way]]) for row in rows]
        lines += [_line(said, "mean", [row[way] for row in rows])] if len(rows) > 1 else []
    return "\n".join(lines)


def long(row: dict[str, Any]) -> bool:
    """Whether a row is of a training whose seeds stand one by one in the docs, with or without the held-out part."""
    return bool(row["options"] == LONG and row["share"] == 1 and row["data"] != "embedded")


def beside(rows: list[dict[str, Any]]) -> str:
    """Trainings side by side, each the mean of its seeds, for the docs."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(label(row), []).append(row)
    lines = ["| | parameters | seeds | " + " | ".join(RATES.values()) + " | a pass |", "|" + "---|" * 7]
    for name, found in groups.items():
        rates = [[one["greedy"][rate] for one in found] for rate in RATES]
        seconds = statistics.mean(one["epoch seconds"] for one in found)
        cells = [name, f"{found[0]['parameters']:,}", str(len(found)), *map(_mean, rates), f"{seconds:.1f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def label(row: dict[str, Any]) -> str:
    """What sets a training apart from others beside it: all that a row is told from another's by, but the seed."""
    default = vars(TranscribeOptions())
    usual, options = {**default, **LONG, "cell": "gru"}, {**default, "cell": "gru", "epochs": EPOCHS, **row["options"]}
    said = [f"`{options['cell']}`, {options['hidden_size']} units"]
    said += ["torch's layers"] if row["layers"] == "torch" else []
    said += ["one direction"] if options["direction"] == "forward" else []
    said += [f"1 of {row['share']} recordings"] if row["share"] > 1 else []
    said += ["embedded sound"] if row["data"] == "embedded" else []
    said += ["held-out speakers too"] if row.get("all") else []
    named = "cell", "hidden_size", "direction", "epochs"
    said += [f"{name} {value}" for name, value in options.items() if name not in named and usual[name] != value]
    return f"{', '.join(said)}; {options['epochs']} passes"


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread} %"


def _line(said: str, seed: str, found: list[dict[str, float]]) -> str:
    cells = [_mean([one[name] for one in found]) for name in RATES]
    return f"| {said} | {seed} | " + " | ".join(cells) + " |"


def add(path: Path, row: dict[str, Any]) -> None:
    """To the rows of a file, in place of one of the same training."""
    rows = [one for one in known(path) if not same(one, row)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"rows": [*rows, {**row, "machine": machine.features()}]})


def known(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows are of one training."""
    return all(one.get(name) == other.get(name) for name in TRAINING)


def chosen_before(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Order and weights of the search that the seven speakers chose for the same training without them."""
    without = {name: value for name, value in row.items() if name not in ("all", "searched")}
    found = next((one for one in known(path) if same(one, without)), None)
    if found is None:
        raise SystemExit(f"--all needs the row of the same training without it, seed {row['seed']}, in {path}")
    return dict(found["chosen"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=int, default=1, help="Train on every so manieth recording.")
    parser.add_argument("--all", action="store_true", help="Train on the held-out speakers too.")
    parser.add_argument("--greedy", action="store_true", help="Only the likeliest letters, no search.")
    parser.add_argument("--layers", choices=("gatewise", "torch"), default="gatewise")
    parser.add_argument("--json", type=Path, default=RESULTS, help="Where the figures are added.")
    parser.add_argument("--runs", type=Path, help="Where trainings of these options are kept, by seed.")
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)  # argparse takes no "--" behind an option of its own
    given = parser.parse_args(words[:cut])
    if given.all and given.greedy:
        parser.error("--all: the search of the held-out speakers is what it takes, expected no --greedy")
    data, options = parts(given.data, given.share), asked(words[cut + 1 :])
    kind = TorchTranscriber if given.layers == "torch" else gw.Transcriber
    runs = []
    how = {"data": Path(given.data).name, "share": given.share, "layers": given.layers, "options": options}
    how |= {"all": True} if given.all else {}
    how |= {"searched": False} if given.greedy else {}
    chosen = {seed: chosen_before(given.json, {**how, "seed": seed}) for seed in given.seeds} if given.all else {}
    for seed in given.seeds:
        run = None if given.runs is None else given.runs / str(seed)
        found = measured(data, kind(**{**options, "seed": seed}), run, chosen.get(seed), not given.greedy)
        runs.append({**how, "seed": seed, "threads": torch.get_num_threads(), **found})
        print(json.dumps(runs[-1]), flush=True)
        add(given.json, runs[-1])
    print(beside(runs) if given.greedy else table(runs), file=sys.stderr)


if __name__ == "__main__":
    main()
