"""The benchmark of transcribers: a training has its error rates, and options are those of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tasks.transcribe.conftest import SMALL, sentences, written

from benches import transcribe
from gatewise import Transcriber
from gatewise.tasks.transcribe.metrics import Evaluation
from gatewise.tasks.transcribe.recordings import Recordings

SHORT = {name: value for name, value in transcribe.LONG.items() if name != "epochs"}
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("kind", "cell"), [(Transcriber, "gru"), (transcribe.TorchTranscriber, "lstm")])
def test_a_training_has_its_error_rates(
    kind: type[Transcriber], cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "ORDERS", (2,))
    monkeypatch.setattr(transcribe, "WEIGHTS", (0.5,))
    monkeypatch.setattr(transcribe, "BONUSES", (0.0, 1.0))
    written(tmp_path, sentences(24), speakers=12)
    written(tmp_path, [*sentences(3, seed=5), "DA DA DA DA"], "test.tsv", speakers=2)
    data = transcribe.parts(str(tmp_path), 2)
    assert [len(part.utterances) for part in data] == [11, 2, 4]
    run = tmp_path / "runs" / "0"
    found = transcribe.measured(data, kind(**SMALL, cell=cell, max_steps=2), run)
    assert found["chosen"] in [{"lm_order": 2, "lm_weight": 0.5, "word_bonus": bonus} for bonus in (0.0, 1.0)]
    for way in ("greedy", "search"):
        assert set(found[way]) == {"WER", "CER", "unseen WER"}
    assert found["real-time factor"] > 0
    both = transcribe.measured(data, kind(**SMALL, cell=cell, max_steps=2), chosen=found["chosen"])
    assert both["chosen"] == found["chosen"]
    assert "held-out WER" in found
    assert found["parameters"] == sum(one.numel() for one in kind.load(run).fitted().parameters())
    greedy = transcribe.measured(data, kind(**SMALL, cell=cell, max_steps=2), searched=False)
    assert greedy["greedy"] == found["greedy"]
    assert not {"search", "chosen"} & greedy.keys()
    assert "held-out WER" not in both
    again = transcribe.measured(data, kind(**SMALL, cell=cell, max_steps=2), run)
    assert {**again, "real-time factor": 0} == {**found, "real-time factor": 0}


def test_a_row_takes_the_place_of_the_same_training_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speech.json"
    row = {"data": "an4", "share": 1, "layers": "gatewise", "options": {"cell": "gru"}}
    for seed, rate in ((0, 9.0), (1, 8.0), (0, 7.0)):
        transcribe.add(path, {**row, "seed": seed, "WER": rate})
    rows = json.loads(path.read_text())["rows"]
    assert [(one["seed"], one["WER"]) for one in rows] == [(1, 8.0), (0, 7.0)]
    assert all("processor" in one["machine"] for one in rows)


def test_the_search_of_all_speakers_is_that_of_the_seven(tmp_path: Path) -> None:
    path, weights = tmp_path / "speech.json", {"lm_order": 3, "lm_weight": 0.4}
    row = {"data": "an4", "share": 1, "layers": "gatewise", "options": {}, "seed": 0}
    transcribe.add(path, {**row, "chosen": weights})
    transcribe.add(path, {**row, "all": True, "chosen": {}})
    assert transcribe.chosen_before(path, {**row, "all": True}) == weights
    transcribe.add(path, {**row, "searched": False})
    assert transcribe.chosen_before(path, {**row, "all": True}) == weights
    with pytest.raises(SystemExit, match="seed 1"):
        transcribe.chosen_before(path, {**row, "all": True, "seed": 1})


def test_the_docs_have_the_figures() -> None:
    rows, page = transcribe.known(DOCS / "speech.json"), (DOCS / "speech.md").read_text()
    long = [row for row in rows if transcribe.long(row)]
    for part in ([row for row in long if row.get("all") is speakers] for speakers in (None, True)):
        assert not part or transcribe.table(part) in page
    others = [row for row in rows if not transcribe.long(row)]
    assert others
    assert transcribe.beside(others) in page


def test_trainings_side_by_side_are_told_apart_by_what_was_asked() -> None:
    rates = {"WER": 9.0, "CER": 4.0, "unseen WER": 10.0}
    same = {"data": "an4", "share": 1, "layers": "gatewise"}
    row = {**same, "parameters": 1234, "epoch seconds": 7.25, "greedy": rates}
    rows = [
        {**row, "options": {**SHORT, "epochs": 40}, "seed": 0},
        {**row, "options": {**SHORT, "epochs": 40}, "seed": 1, "greedy": {**rates, "WER": 11.0}},
        {**row, "options": {**SHORT, "epochs": 80, "cell": "lstm", "hidden_size": 139}, "share": 2, "seed": 0},
        {**row, "options": {**SHORT, "epochs": 40, "direction": "forward"}, "data": "embedded", "seed": 0},
        {**row, "options": {**SHORT, "epochs": 40, "num_layers": 4}, "layers": "torch", "seed": 0},
    ]
    lines = transcribe.beside(rows).splitlines()[2:]
    assert lines == [
        "| `gru`, 160 units; 40 passes | 1,234 | 2 | 10.0 ± 1.4 % | 4.0 ± 0.0 % | 10.0 ± 0.0 % | 7.2 s |",
        "| `lstm`, 139 units, 1 of 2 recordings; 80 passes | 1,234 | 1 | 9.0 % | 4.0 % | 10.0 % | 7.2 s |",
        "| `gru`, 160 units, one direction, embedded sound; 40 passes | 1,234 | 1 | 9.0 % | 4.0 % | 10.0 % | 7.2 s |",
        "| `gru`, 160 units, torch's layers, num_layers 4; 40 passes | 1,234 | 1 | 9.0 % | 4.0 % | 10.0 % | 7.2 s |",
    ]
    assert "speeds 0.9,1,1.1" in transcribe.label({**row, "options": {"epochs": 40}})
    assert transcribe.long({**row, "options": dict(transcribe.LONG)})
    assert not any(map(transcribe.long, rows))


def test_a_table_has_each_seed_and_their_mean() -> None:
    rates = ({"WER": 9.0, "CER": 4.04, "unseen WER": 10.0}, {"WER": 11.0, "CER": 4.0, "unseen WER": 10.0})
    rows = [{"seed": seed, "greedy": rates[seed], "search": rates[1 - seed]} for seed in (0, 1)]
    lines = transcribe.table(rows).splitlines()
    assert lines[2] == "| the likeliest letters | 0 | 9.0 % | 4.0 % | 10.0 % |"
    assert lines[4] == "| the likeliest letters | mean | 10.0 ± 1.4 % | 4.0 ± 0.0 % | 10.0 ± 0.0 % |"
    assert [line.count("|") for line in lines] == [6] * 8


def test_unseen_transcripts_are_counted_alone(tmp_path: Path) -> None:
    training = Recordings(transcribe.recordings(written(tmp_path, ["AB", "DA DA"])).utterances)
    found = Evaluation(["1", "2"], ["AB", "CAD DA"], {"gru": ["DA", "CAD"]})
    assert transcribe.unseen(found, training) == 50
    assert transcribe.figures(found, training)["WER"] == pytest.approx(200 / 3)


def test_options_are_those_of_fit() -> None:
    words = ["--hidden-size", "8", "--dropout", "0.5", "--cell", "lstm", "--lowercase", "True"]
    assert transcribe.asked(words) == {"hidden_size": 8, "dropout": 0.5, "cell": "lstm", "lowercase": True}
    for wrong in (["--nothing", "3"], ["--dropout"]):
        with pytest.raises(SystemExit, match="expected options of gatewise fit transcribe"):
            transcribe.asked(wrong)
