"""Which recordings there are: each layout, what is held out, and a sentence for what cannot be read."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tasks.transcribe.conftest import RATE, sentences, spoken, written

from gatewise.tasks import transcribe
from gatewise.tasks.errors import InputError
from gatewise.tasks.transcribe.embedded import FOLDER, LICENSE, embedded
from gatewise.tasks.transcribe.recordings import Utterance, held_out, recordings
from gatewise.tasks.transcribe.sound import Clip, read


def sound(path: Path, text: str = "AB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, spoken(text), RATE)
    return path


def rows(data: object) -> list[tuple[str, str, str | None]]:
    return [(one.name, one.text, one.speaker) for one in recordings(data).utterances]


def test_a_table(tmp_path: Path) -> None:
    sound(tmp_path / "in" / "a.wav")
    sound(tmp_path / "b.flac")
    (tmp_path / "x.tsv").write_text("in/a.wav\t AB  B\nb.flac\tA\n")
    assert rows(tmp_path / "x.tsv") == [("in/a.wav", "AB B", None), ("b.flac", "A", None)]
    (tmp_path / "y.tsv").write_text("b.flac\tkim\t1.25\tA B\n")
    assert rows(str(tmp_path / "y.tsv")) == [("b.flac", "A B", "kim")]
    pairs = [(tmp_path / "b.flac", "A"), (str(tmp_path / "in" / "a.wav"), "AB")]
    assert [text for _, text, _ in rows(pairs)] == ["A", "AB"]


def test_an_archive_with_a_table_beside_it(tmp_path: Path) -> None:
    sound(tmp_path / "one.flac", "CAD")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "one.flac", "deep/one.flac")
    (tmp_path / "one.flac").unlink()
    (tmp_path / "all.tsv").write_text("one\tkim\t1.2\tCAD\n")
    for path in (tmp_path / "all.tsv", tmp_path / "all.tar"):
        (found,) = recordings(path).utterances
        assert (found.text, found.speaker) == ("CAD", "kim")
        assert len(read(found.clip, RATE)) == len(spoken("CAD"))


def test_librispeech_an_audiofolder_and_a_folder_of_texts(tmp_path: Path) -> None:
    sound(tmp_path / "libri" / "84" / "12" / "84-12-0000.flac")
    (tmp_path / "libri" / "84" / "12" / "84-12.trans.txt").write_text("84-12-0000 AB A\n")
    assert rows(tmp_path / "libri") == [("84-12-0000", "AB A", "84")]
    sound(tmp_path / "hub" / "data" / "a.wav")
    for column in ("transcription", "text", "sentence"):
        (tmp_path / "hub" / "metadata.csv").write_text(f'file_name,{column},age\ndata/a.wav,"AB, A",3\n')
        assert rows(tmp_path / "hub") == [("data/a.wav", "AB, A", None)]
    sound(tmp_path / "own" / "kim" / "a.ogg")
    sound(tmp_path / "own" / "b.WAV")
    sound(tmp_path / "own" / ".hidden" / "c.wav")
    sound(tmp_path / "own" / "lone.wav")
    (tmp_path / "own" / "kim" / "a.txt").write_text("AB\nA\n")
    (tmp_path / "own" / "b.txt").write_text("B")
    assert rows(tmp_path / "own") == [("b.WAV", "B", None), ("kim/a.ogg", "AB A", "kim")]
    assert recordings(tmp_path / "own").left_out == [("lone.wav", "there is no lone.txt with its transcript beside it")]


def test_what_cannot_be_read_gets_a_sentence(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty").mkdir()
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "metadata.csv").write_text("name,text\na,b\n")
    cases: list[tuple[object, str]] = [
        (tmp_path / "nothing.tsv", "there is no file .*nothing.tsv"),
        (tmp_path / "empty", "empty holds no recordings with transcripts, expected at least one"),
        (hub, "has the columns name, text, expected file_name and one of transcription, text"),
        ([(tmp_path / "a.wav", "  ")], "the transcript of .*a.wav is empty"),
        ([("a.wav",)], "entry 1 must be a pair"),
        (7, "data must be a path or a list of pairs .path, transcript., got int"),
    ]
    for text, sentence in (
        ("a.wav AB\n", "line 1: expected a path, a tab and a transcript, got 'a.wav AB'"),
        ("a.wav\tAB\na.wav\t \n", "line 2: the transcript is empty"),
        ("b.wav\tAB\n", "there is no file .*b.wav"),
        ("text.wav\tAB\n", "text.wav is no sound file"),
    ):
        path = tmp_path / f"{len(cases)}.tsv"
        path.write_text(text)
        cases.append((path, sentence))
    for data, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            recordings(data)


def test_every_tenth_speaker_or_recording_is_held_out(tmp_path: Path) -> None:
    data = recordings(written(tmp_path, sentences(40), speakers=20)).utterances
    training, held = held_out(data)
    assert sorted({one.speaker for one in held if one.speaker}) == ["s13", "s5"]  # 5 and 15 in the order of names
    assert len(held) == 4
    assert len(training) == 36
    nobody = [Utterance(one.name, one.clip, one.text) for one in data]
    training, held = held_out(nobody)
    assert [data.index(one) if one in data else nobody.index(one) for one in held] == [5, 15, 25, 35]
    few = held_out(nobody[:3])
    assert [len(part) for part in few] == [2, 1]
    with pytest.raises(InputError, match="there is one recording, expected at least two"):
        held_out(nobody[:1])


def test_a_clip_knows_when_its_file_changes(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav")
    before = Clip(path).mark
    assert Clip(path).mark == before
    assert Clip(path, start=5).mark != before
    soundfile.write(path, np.zeros(50), RATE)
    assert Clip(path).mark != before


def test_the_embedded_speech() -> None:
    """Of its speakers those are held out that the data's notes name; each recording can be told to be its own."""
    train, test = embedded()
    assert (len(train), len(test)) == (948, 130)
    training, held = held_out(train)
    assert sorted({str(one.speaker) for one in held}) == ["fjam", "fplp", "mcen", "meht", "mjhp", "mmtm", "msjr"]
    assert (len(training), len(held)) == (857, 91)
    assert {one.speaker for one in train}.isdisjoint(one.speaker for one in test)
    words = [word for one in train for word in one.text.split()]
    assert (len(words), len(set(words))) == (5442, 99)
    folder = Path(transcribe.__file__).parent / FOLDER
    assert "Carnegie Mellon University" in (folder / LICENSE).read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000
    for one in test[:3]:
        samples = read(one.clip, RATE)
        assert one.clip.stop is not None
        assert len(samples) == one.clip.stop - one.clip.start
        quiet, loud = np.quantile(np.abs(samples), [0.1, 0.99])
        assert loud > 10 * quiet
