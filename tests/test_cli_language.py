"""The command line of language models: what it prints and writes, and one line for every bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
QUICK = ["--hidden-size", "16", "--embedding-size", "8", "--batch-size", "4", "--sequence-length", "16"]
QUICK += ["--max-steps", "50", "--learning-rate", "0.02", "--dropout", "0"]
LINE = "the cat sat on the mat. "


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with texts good and bad."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(LINE * 60)
    (tmp_path / "more.txt").write_text("the mat sat. " * 30)
    (tmp_path / "other.txt").write_text("on the mat the cat sat. " * 10)
    (tmp_path / "longer.txt").write_text(LINE * 61)
    (tmp_path / "latin.txt").write_bytes("été\n".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "foreign.txt").write_text("Ümläut")
    return tmp_path


def test_fit_predict_score_trace(run: Run, place: Path) -> None:
    code, out, err = run("fit", "language", "book.txt", "more.txt", "-o", "m", *QUICK)
    assert code == 0
    assert "6-gram" in out
    assert "it writes:\n  │ " in out
    assert "characters/s" in err
    assert "bits per character; it writes:" in err
    code, out, _ = run("predict", "m", "--prompt", "the c", "--length", "30", "--temperature", "0.5")
    assert (code, out[:5], out[-1]) == (0, "the c", "\n")
    assert out == run("predict", "m", "--prompt", "the c", "--length", "30", "--temperature", "0.5")[1]
    drawn = ["--top-p", "0.9", "--top-k", "5", "--min-p", "0.01", "--repetition-penalty", "1.1", "--seed", "3"]
    texts = json.loads(run("predict", "m", "--prompt", "c", "--prompt", "m", *drawn, "--json")[1])["texts"]
    assert [one["prompt"] for one in texts] == ["c", "m"]
    shown = run("predict", "m", "--prompt", "c", "--prompt", "m", *drawn)[1]
    assert shown == "\n\n".join(one["prompt"] + one["text"] for one in texts) + "\n"
    assert "." not in run("predict", "m", "--prompt", "the ", "--stop", ".", "--stop", "zzz")[1]
    assert run("predict", "m", "--length", "5")[0] == 0
    assert run("predict", "m", "--prompt", "the c", "--length", "3", "--beam", "4")[1] == "the cat \n"
    code, out, _ = run("score", "m", "other.txt")
    assert code == 0
    assert "nats/character" in out
    scores = json.loads(run("score", "m", "--json")[1])["scores"]
    assert set(scores) == {"gru_reset_after", *(f"{n}-gram" for n in range(1, 7))}
    code, out, _ = run("trace", "m", "the cat", "-o", "look.png")
    assert (code, out.splitlines()[-2:]) == (0, ["look.png", "look.csv"])
    rows = list(csv.DictReader((place / "look.csv").open()))
    assert [rows[k]["label"] for k in range(0, len(rows), 16)] == ["<end>", "t", "h", "e", "␣", "c", "a", "t"]


def test_standard_input_validation_and_resume(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((LINE * 60).encode())))
    held = ["--validation", "other.txt"]
    assert run("fit", "language", "-", *held, "-o", "m", *QUICK, "--json")[0] == 0
    before = (place / "m" / "metrics.json").read_bytes()
    assert run("fit", "language", "book.txt", *held, "-o", "m", "--resume")[0] == 0  # the same text by another way
    assert (place / "m" / "metrics.json").read_bytes() == before
    code, _, err = run("fit", "language", "longer.txt", *held, "-o", "m", "--resume")
    assert (code, "data: differs" in err) == (2, True)
    names = ["config.json", "metrics.csv", "metrics.json", "model.safetensors", "tokens.bin", "tokens.json"]
    names += ["validation.bin", "validation.json", "vocabulary.json"]
    assert sorted(path.name for path in (place / "m").iterdir()) == names


def test_compare_and_look_inside(run: Run, place: Path) -> None:
    asked = ["--cells", "gru_reset_after,lstm", "--hidden-size", "8", "--max-steps", "4", "--seeds", "1"]
    code, out, _ = run("compare", "language", "book.txt", *asked, *QUICK[2:8], "-o", "c")
    assert code == 0
    assert "64 tokens, one by one" in out
    assert "At equal parameters" in out
    model = "c/fits/gru_reset_after-both-8-seed0"
    assert run("gradients", model, "the cat", "-o", "g.png")[0] == 0
    record = json.loads((place / "g.json").read_text())
    assert record["saliency"]["labels"] == ["<end>", "t", "h", "e", "␣", "c", "a", "t"]
    assert len(record["flows"][0]["mean"]) == 9
    for data in (["the cat"], []):
        assert run("report", model, *data, "-o", "page")[0] == 0
        assert "␣" in (place / "page" / "report.json").read_text()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose texts end only where they must: its text is one document."""
    import gatewise as gw

    folder = tmp_path_factory.mktemp("model") / "m"
    sizes = {"hidden_size": 16, "embedding_size": 8, "batch_size": 4, "sequence_length": 16}
    gw.LanguageModel(**sizes, max_steps=20).fit([LINE * 60], directory=folder)
    return folder


def writing(model: Path) -> subprocess.Popen[str]:
    """A process that writes a long text."""
    command = [sys.executable, "-m", "gatewise", "predict", str(model), "--prompt", "the ", "--length", "100000000"]
    command += ["--temperature", "0"]  # which ends nowhere
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_leaves_the_text_so_far_and_says_so(model: Path) -> None:
    process = writing(model)
    assert process.stdout is not None
    begun = process.stdout.read(40)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert begun.startswith("the ")
    assert rest.endswith("\n")
    assert err == "gatewise: interrupted; the text is as far as it was written\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_reader_that_has_had_enough_ends_it_quietly(model: Path) -> None:
    process = writing(model)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(40)
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "language", "latin.txt", "-o", "m"], "latin.txt, byte 0: not UTF-8 (0xe9)"),
        (["fit", "language", "latin.txt", "--tokenizer", "bpe", "-o", "m"], "latin.txt, byte 0: not UTF-8 (0xe9)"),
        (["fit", "language", "none.txt", "-o", "m"], "there is no file none.txt"),
        (["fit", "language", "*.doc", "-o", "m"], "no file matches *.doc"),
        (["fit", "language", "empty.txt", "-o", "m"], "data: the text is empty"),
        (["fit", "language", "book.txt", "--validation", "foreign.txt", "-o", "m"], "foreign.txt: the text the model"),
        (["fit", "language", "book.txt", "--tokenizer", "words", "-o", "m"], "tokenizer must be one of char, byte"),
        (["fit", "language", "book.txt", "--hidden-size", "0", "-o", "m"], "hidden_size must be an integer of at"),
        (["compare", "language", "none.txt", "-o", "m"], "there is no file none.txt"),
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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prompt", "ß"], "no character 'ß' (U+00DF)"),
        (["--length", "0"], "length must be an integer of at least 1, got 0"),
        (["--top-p", "2"], "top_p must be a number above 0 and at most 1, got 2.0"),
        (["--beam", "3", "--top-p", "0.9"], "--top-p is for drawn texts, but --beam asks for the likeliest"),
        (["--beam", "0"], "beam must be an integer of at least 1, got 0"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_bad_options_of_predict_are_one_line(run: Run, model: Path, arguments: list[str], sentence: str) -> None:
    code, out, err = run("predict", model, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
