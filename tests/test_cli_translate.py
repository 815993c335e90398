"""The command line of translation: what it prints and writes, and one line for every bad input."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks.translate.conftest import toy

Run = Callable[..., tuple[int, str, str]]
QUICK = ["--hidden-size", "16", "--embedding-size", "8", "--vocabulary", "words", "--separate", "--batch-size", "16"]
QUICK += ["--max-steps", "30", "--learning-rate", "0.02"]


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data good and bad."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.tsv", toy(200))
    write(tmp_path / "val.tsv", toy(20, seed=1))
    write(tmp_path / "swapped.tsv", [(t, s) for s, t in toy(20, seed=2)])
    (tmp_path / "empty.tsv").write_text("a dog\tun chien\na cat\t\n")
    (tmp_path / "latin.tsv").write_bytes("a dog\tun été\n".encode("latin-1"))
    for name, side in (("en", 0), ("fr", 1)):
        (tmp_path / f"train.{name}").write_text("".join(f"{pair[side]}\n" for pair in toy(200)))
    (tmp_path / "short.fr").write_text("un\n")
    return tmp_path


def test_fit_predict_score_trace(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run("fit", "translate", "train.tsv", "--validation", "val.tsv", "-o", "m", *QUICK)
    assert code == 0
    assert "dictionary" in out
    assert "tokens/s" in err
    assert "→" in err
    code, out, _ = run("predict", "m", "red cat eats.", "--beam", "3", "--n-best", "2", "--scores")
    assert code == 0
    scores = [float(line.split("\t")[0]) for line in out.splitlines()]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"red cat eats.\nblue dog sees.\n")))
    lines = run("predict", "m")[1].splitlines()
    assert len(lines) == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\nred cat eats.\n \nblue dog sees.\n")))
    assert run("predict", "m")[1].splitlines() == ["", lines[0], "", lines[1]]
    assert "TEXT must be a sentence" in run("predict", "m", " ")[2]
    record = json.loads(run("predict", "m", "blue dog sees.", "--json")[1])["translations"][0]
    assert (record["source"], record["translations"][0]["text"]) == ("blue dog sees.", lines[1])
    out = run("score", "m", "val.tsv")[1]
    assert "BLEU by length" in out
    assert "tok:13a" in out
    scores = json.loads(run("score", "m", "--source", "train.en", "--target", "train.fr", "--json")[1])["scores"]
    assert set(scores) == {"gru", "dictionary", "copy"}
    code, out, _ = run("trace", "m", "red cat eats.", "-o", "look.png")
    assert code == 0
    assert out.splitlines()[1:] == ["look.png", "look.csv"]
    assert next(csv.reader((place / "look.csv").open())) == ["target", "mean z", "▁red", "▁cat", "▁eats", "."]


def test_two_files_and_resume(run: Run, place: Path) -> None:
    files = ["--source", "train.en", "--target", "train.fr"]
    assert run("fit", "translate", *files, "-o", "m", *QUICK, "--json")[0] == 0
    before = (place / "m" / "metrics.json").read_bytes()
    assert run("fit", "translate", *files, "-o", "m", "--resume")[0] == 0  # a finished run stays as it is
    assert (place / "m" / "metrics.json").read_bytes() == before
    code, _, err = run("fit", "translate", "val.tsv", "-o", "m", "--resume")
    assert (code, "data: differs" in err) == (2, True)
    assert "line 1: the columns look swapped" in run("score", "m", "swapped.tsv")[2]


def test_compare_and_look_inside(run: Run, place: Path) -> None:
    asked = ["--cells", "gru,rnn", "--hidden-size", "8", "--embedding-size", "6", "--max-steps", "4", "--seeds", "1"]
    data = ["--source", "train.en", "--target", "train.fr", "--vocabulary", "words"]
    code, out, _ = run("compare", "translate", *data, *asked, "--equal", "size", "-o", "c")
    assert code == 0
    assert "ms/64 sentences" in out
    assert "At equal size" in out
    assert (place / "c" / "compare.png").exists()
    code, out, err = run("gradients", "c/fits/gru-both-8-seed0", "red cat eats.", "-o", "g.png")
    assert (code, "saliency alone" in err) == (0, True)
    record = json.loads((place / "g.json").read_text())
    assert record["flows"] == []
    assert record["saliency"]["labels"] == ["▁red", "▁cat", "▁eats", "."]
    assert run("report", "c/fits/gru-both-8-seed0", "red cat eats.", "-o", "page")[0] == 0
    blocks = json.loads((place / "page" / "report.json").read_text())["blocks"]
    axes = [b["figure"]["layout"]["xaxis"] for b in blocks if b["kind"] == "plot"]
    assert sum(axis.get("ticktext") == ["▁red", "▁cat", "▁eats", "."] for axis in axes) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "translate", "empty.tsv", "-o", "m"], "empty.tsv, line 2: the target is empty"),
        (["fit", "translate", "latin.tsv", "-o", "m"], "latin.tsv, line 1: not UTF-8"),
        (["fit", "translate", "none.tsv", "-o", "m"], "there is no file none.tsv"),
        (["fit", "translate", "--source", "train.en", "-o", "m"], "--target is missing"),
        (["fit", "translate", "train.tsv", "--source", "train.en", "-o", "m"], "stand for a TSV file"),
        (["fit", "translate", "--source", "train.en", "--target", "short.fr", "-o", "m"], "expected as many: line 2"),
        (
            ["fit", "translate", "train.tsv", "--validation", "swapped.tsv", "-o", "m"],
            "swapped.tsv, line 1: the columns",
        ),
        (["fit", "translate", "train.tsv", "--decoder", "none", "-o", "m"], "decoder must be one of attention, final"),
        (["fit", "translate", "train.tsv", "--devices", "0", "-o", "m"], "devices must be an integer of at least 1"),
        (
            ["fit", "translate", "train.tsv", "--precision", "16", "-o", "m"],
            "precision must be one of 32-true, bf16-mixed",
        ),
        (["fit", "translate", "train.tsv", "-o", ""], "expected the name of a directory"),
        (["compare", "translate", "none.tsv", "-o", "m"], "there is no file none.tsv"),
        (["compare", "translate", "train.tsv", "--hidden-size", "7", "-o", "m"], "hidden_size must be even"),
    ],
    ids=lambda value: " ".join(value[2:5]) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(run: Run, place: Path, arguments: list[str], sentence: str) -> None:
    before = sorted(place.rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert sorted(place.rglob("*")) == before
