"""The command line of transcribers: what it prints and writes, and one line for every bad input."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tasks.transcribe.conftest import RATE, sentences, spoken, written

import gatewise as gw

Run = Callable[..., tuple[int, str, str]]
QUICK = ["--hidden-size", "8", "--num-layers", "1", "--speeds", "1", "--max-steps", "6", "--batch-seconds", "12"]
CALL = "CAD CBB AB"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with recordings good and bad."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("call.wav", spoken(CALL), RATE)
    soundfile.write("silent.flac", np.zeros(RATE), RATE)
    soundfile.write("empty.wav", np.zeros(0), RATE)
    Path("text.wav").write_text("no sound")
    Path("sentences.txt").write_text("\n".join(sentences(50)))
    Path("words.txt").write_text("CAD\nDA")
    return tmp_path


def test_fit_says_what_it_left_out_and_what_is_wrong(run: Run, place: Path) -> None:
    data = written(place / "sound", sentences(12))
    soundfile.write(place / "sound" / "train-1.wav", np.zeros(500), RATE)
    code, out, err = run("fit", "transcribe", data, "-o", "m", *QUICK)
    assert code == 0
    assert "left out of training, 1:\n  train-1.wav: its transcript needs" in out
    assert "faults of sound, 1:\n  train-1.wav: it is silent" in out
    assert "most frequent transcript" in out
    assert "not exact, those with most errors:\nrecording" in out
    assert "best 1 (validation WER 100.000), weights of the last (100.000)" in out
    assert "validation WER" in err
    assert "  → " in err
    code, out, _ = run("fit", "transcribe", data, "-o", "m", *QUICK, "--resume")
    assert code == 0


def test_predict(run: Run, place: Path, both: gw.Transcriber, caplog: pytest.LogCaptureFixture) -> None:
    both.save("m")
    assert run("predict", "m", "call.wav") == (0, f"{CALL}\n", "")
    code, out, _ = run("predict", "m", "call.wav", "silent.flac")
    assert code == 0
    assert out.splitlines()[0] == f"call.wav\t{CALL}"
    assert caplog.messages == ["silent.flac: it is silent"]
    out = run("predict", "m", "call.wav", "--timestamps")[1]
    times = [line.split() for line in out.splitlines()[1:]]
    assert [row[2] for row in times] == CALL.split()
    assert all(float(a) < float(b) for a, b, _ in times)
    out = run("predict", "m", "call.wav", "--n-best", "3", "--lm", "sentences.txt")[1]
    scores = [float(line.split("\t")[0]) for line in out.splitlines()]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert out.splitlines()[0].split("\t")[1] == CALL
    found = json.loads(run("predict", "m", "call.wav", "--json", "--words", "words.txt", "--beam", "30")[1])
    (one,) = found["transcripts"]
    assert one["file"] == "call.wav"
    assert set(one["texts"][0]["text"].split()) <= {"CAD", "DA"}
    assert {"text", "score", "words"} == one["texts"][0].keys()
    assert len(run("predict", "m")[1].splitlines()) == 30


def test_live(
    run: Run,
    place: Path,
    forward: gw.Transcriber,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    forward.save("m")
    caplog.set_level("INFO")

    def whole(rate: int, **how: object) -> str:
        samples = (spoken(CALL, rate=rate) * 32767).astype(np.int16) / np.float32(32768)
        return forward.transcribe([(samples, rate)], **how)[0][0].text

    def listen(rate: int, *options: str, times: int = 1) -> tuple[int, str, str]:
        once = [spoken(CALL, rate=rate), spoken("     ", rate=rate)]
        raw = (np.concatenate((once * times)[: 2 * times - 1]) * 32767).astype("<i2").tobytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        return run("predict", "m", "--live", *options)

    code, out, _ = listen(RATE)
    lines = out.splitlines()
    assert (code, lines[-1]) == (0, whole(RATE))
    assert len(lines) > 4
    assert all(lines[-1].startswith(line) for line in lines)
    assert "real-time factor" in caplog.messages[-1]
    code, out, _ = listen(8000, "--rate", "8000", "--json", "--beam", "4", "--lm", "transcripts")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["final"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["text"] == whole(8000, beam=4, lm="transcripts")
    assert events[-1]["seconds"] == pytest.approx(len(spoken(CALL)) / RATE, abs=0.01)
    code, out, _ = listen(RATE, "--json", "--pause", "0.6", times=2)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["text"] for event in events if event["final"]] == [whole(RATE)] * 2
    assert sum(event["text"] == "" for event in events) == 0


def test_score_and_trace(run: Run, place: Path, both: gw.Transcriber) -> None:
    both.save("m")
    data = written(place / "sound", [*sentences(5, seed=3), "DA DA DA DA DA"], "test.tsv")
    code, out, _ = run("score", "m", data)
    assert code == 0
    assert "6 recordings" in out
    assert "left out  put in" in out
    found = json.loads(run("score", "m", data, "--json", "--beam", "8", "--lm", "transcripts")[1])
    assert set(found["scores"]) == {"gru", "most frequent transcript"}
    assert [one["name"] for one in found["recordings"]] == [f"test-{k}.wav" for k in range(6)]
    code, out, _ = run("trace", "m", "call.wav", "-o", "look.png")
    assert (code, out.splitlines()) == (0, [CALL, "look.png", "look.csv"])
    rows = list(csv.DictReader(Path("look.csv").read_text().splitlines()))
    assert list(rows[0]) == ["second", "letter", "probability", "blank", "mean z forward", "mean z backward"]
    letters = [row["letter"] for row in rows]
    kept = [a for a, b in zip(letters, ["", *letters], strict=False) if a != b and a != "blank"]
    assert "".join(kept).replace("␣", " ").strip() == CALL
    assert json.loads(run("trace", "m", "call.wav", "-o", "again.svg", "--json")[1])["gate"] == "z"


def test_bad_input_is_one_line(run: Run, place: Path, both: gw.Transcriber) -> None:
    both.save("m")
    cases = [
        (["predict", "m", "nothing.wav"], "there is no file nothing.wav"),
        (["predict", "m", "empty.wav"], "empty.wav is empty: it holds no sound"),
        (["predict", "m", "text.wav"], "text.wav is no sound file that can be read"),
        (["predict", "m", "call.wav", "--live"], "--live reads standard input"),
        (["predict", "m", "--live"], "reads recordings in both directions"),
        (["predict", "m", "call.wav", "--rate", "8000"], "--rate and --pause are of the standard input of --live"),
        (["predict", "m", "call.wav", "--lm", "nothing.txt"], "there is no file nothing.txt"),
        (["predict", "m", "call.wav", "--beam", "0"], "beam must be an integer of at least 1, got 0"),
        (["score", "m", "call.wav"], "call.wav, line 1: not UTF-8"),
        (["trace", "m"], "INPUT is missing: expected a sound file"),
        (["fit", "transcribe", "nothing.tsv", "-o", "n"], "there is no file nothing.tsv"),
        (["fit", "transcribe", "--validation", "x.tsv", "-o", "n"], "the embedded speech brings its own"),
    ]
    for arguments, sentence in cases:
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
        assert sentence in err, arguments
    assert not Path("n").exists()
    assert not Path("trace.png").exists()
