"""Sound and what is heard of it: any rate, any pieces, and a sentence for what is no sound."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tasks.transcribe.conftest import RATE, spoken

from gatewise.tasks.errors import InputError
from gatewise.tasks.transcribe.features import BANDS, FLOOR, LEAST_SPREAD, Listener, Running, Statistics, log_mel
from gatewise.tasks.transcribe.sound import Clip, check, converted, faults, members, read


@pytest.mark.parametrize(("suffix", "subtype"), [(".wav", None), (".flac", None), (".ogg", "OPUS"), (".mp3", None)])
def test_formats_are_read(tmp_path: Path, suffix: str, subtype: str | None) -> None:
    path, whole = tmp_path / f"call{suffix}", spoken("ABCD")
    soundfile.write(path, whole, RATE, subtype=subtype)
    check(Clip(path))
    found = read(Clip(path), RATE)
    assert found.dtype == np.float32
    assert abs(len(found) - len(whole)) <= 0.1 * RATE  # MP3 pads its blocks
    heard, wanted = (np.exp(log_mel(one, RATE)).mean(0) for one in (found, whole))
    assert np.corrcoef(heard, wanted)[0, 1] > 0.95  # the power of each band


def test_stereo_is_mixed_and_other_rates_are_brought_to_the_models(tmp_path: Path) -> None:
    whole = spoken("ABCD", rate=48000)
    soundfile.write(tmp_path / "two.wav", np.stack([whole, -0.5 * whole], 1), 48000, subtype="FLOAT")
    found = read(Clip(tmp_path / "two.wav"), RATE)
    assert len(found) == pytest.approx(len(whole) / 3, abs=1)
    assert found == pytest.approx(converted(0.25 * whole, 48000, RATE, "half"), abs=1e-6)
    faster = read(Clip(tmp_path / "two.wav"), RATE, 1.25)
    assert len(faster) == pytest.approx(len(found) / 1.25, abs=1)
    spectra = [np.abs(np.fft.rfft(one, 1 << 17))[: 1 << 15] for one in (found, faster)]
    peaks = [int(spectrum[: 1 << 12].argmax()) for spectrum in spectra]
    assert peaks[1] / peaks[0] == pytest.approx(1.25, rel=0.01)  # 25 % faster, and higher by as much


def test_a_part_of_a_file_and_a_member_of_an_archive(tmp_path: Path) -> None:
    whole = spoken("AB")
    soundfile.write(tmp_path / "a.wav", whole, RATE, subtype="FLOAT")
    assert (read(Clip(tmp_path / "a.wav", start=100, stop=900), RATE) == whole[100:900]).all()
    raw = (tmp_path / "a.wav").read_bytes()
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in ("./x/one.wav", "two.wav"):
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    assert members(tmp_path / "all.tar") == ["x/one.wav", "two.wav"]
    assert (read(Clip(tmp_path / "all.tar", "x/one.wav"), RATE) == whole).all()
    with pytest.raises(InputError, match="no tar archive"):
        members(tmp_path / "a.wav")


def test_what_is_no_sound_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is not sound")
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), RATE)
    bad = spoken("A")
    bad[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", bad, RATE, subtype="FLOAT")
    (tmp_path / "zero.mp3").write_bytes(b"")
    for name, sentence in (
        ("text.wav", "text.wav is no sound file that can be read, expected WAV, FLAC, OGG or MP3"),
        ("zero.mp3", "zero.mp3 is no sound file"),
        ("none.wav", "none.wav is empty: it holds no sound"),
        ("nan.wav", "nan.wav: sample 8 is nan, expected a finite number"),
        ("missing.wav", "there is no file .*missing.wav"),
        ("", "is a folder, expected a sound file"),
    ):
        with pytest.raises(InputError, match=sentence):
            read(Clip(tmp_path / name), RATE)
    for name in ("text.wav", "none.wav", "missing.wav"):
        with pytest.raises(InputError, match=name):
            check(Clip(tmp_path / name))


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    for text in ("A", "ABCD"):
        soundfile.write(tmp_path / "a.wav", spoken(text), RATE, subtype="FLOAT")
        assert (read(Clip(tmp_path / "a.wav"), RATE) == spoken(text)).all()


@pytest.mark.parametrize(("suffix", "subtype"), [(".wav", None), (".flac", None), (".ogg", "OPUS"), (".mp3", None)])
def test_damaged_files_are_read_or_refused_in_a_sentence(tmp_path: Path, suffix: str, subtype: str | None) -> None:
    soundfile.write(tmp_path / f"whole{suffix}", spoken("ABC"), RATE, subtype=subtype)
    raw, generator = (tmp_path / f"whole{suffix}").read_bytes(), np.random.default_rng(0)
    path = tmp_path / f"damaged{suffix}"
    refused: list[str] = []
    for trial in range(60):
        broken = bytearray(raw[: int(generator.integers(len(raw)))] if trial % 2 else raw)
        for place in generator.integers(len(broken), size=20) if len(broken) and trial % 4 > 1 else ():
            broken[place] = int(generator.integers(256))
        path.write_bytes(broken)
        try:
            assert np.isfinite(read(Clip(path), RATE)).all()
        except InputError as error:
            refused.append(str(error))
    assert refused
    assert all(sentence.startswith(str(path)) for sentence in refused)


def test_sound_of_a_single_sample() -> None:
    for own in (8000, 16000, 44100):
        assert log_mel(converted(np.full(1, 0.5, np.float32), own, RATE, "it"), RATE).shape == (1, BANDS)


def test_silence_and_clipping_are_noticed() -> None:
    assert faults(spoken("ABC")) == []
    assert faults(np.zeros(100, np.float32)) == ["it is silent"]
    (said,) = faults(np.clip(20 * spoken("ABC"), -1, 1))
    assert said.endswith("% of its samples are clipped")


@pytest.mark.parametrize("size", [37, 160, 5000])
def test_sound_in_pieces_gives_the_frames_of_the_whole(size: int) -> None:
    whole = spoken("ABCD")
    listener, wanted = Listener(RATE), log_mel(whole, RATE)
    parts = [listener.push(whole[k : k + size]) for k in range(0, len(whole), size)]
    found = np.concatenate([*parts, listener.finish()])
    assert (found == wanted).all()
    assert (log_mel(whole, RATE) == wanted).all()  # no dither
    start = Statistics.of([wanted])
    running, together = Running(start), Running(start).push(wanted)
    pieces = [running.push(wanted[k : k + size]) for k in range(0, len(wanted), size)]
    assert (np.concatenate(pieces) == together).all()


def test_a_frame_is_what_its_pitch_says() -> None:
    frames = log_mel(np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32), RATE)
    assert frames.shape == (98, BANDS)
    mel = 1127 * np.log(1 + np.array([20, 1000, RATE / 2]) / 700)
    place = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (BANDS + 1) - 1  # of the triangle around 1000 Hz
    assert abs(frames.mean(0).argmax() - place) < 1
    assert log_mel(np.zeros(10, np.float32), RATE).shape == (1, BANDS)


@pytest.mark.parametrize("size", [1, 50, 10**6])
def test_digital_silence_does_not_move_the_running_mean(size: int) -> None:
    speech, silence = log_mel(spoken("ABCD"), RATE), log_mel(np.zeros(60 * RATE, np.float32), RATE)
    assert (silence == FLOOR).all()
    start = Statistics.of([speech + 2])
    plain, muted = Running(start), Running(start)
    wanted = plain.push(speech), plain.push(speech)
    assert (muted.push(speech) == wanted[0]).all()
    quiet = np.concatenate([muted.push(silence[k : k + size]) for k in range(0, len(silence), size)])
    assert np.isfinite(quiet).all()
    assert (muted.push(speech) == wanted[1]).all()


def test_normalised_frames_have_mean_zero_and_spread_one() -> None:
    parts = [log_mel(spoken(text), RATE) for text in ("AB", "CAD")]
    together = Statistics.of(parts)
    found = np.concatenate([together.normalised(one) for one in parts])
    assert found.mean(0) == pytest.approx(np.zeros(BANDS), abs=1e-4)
    assert found.std(0) == pytest.approx(np.ones(BANDS), abs=1e-3)
    again = Statistics.from_json(together.to_json())
    assert (again.mean == together.mean).all()
    silence = Statistics.of([log_mel(np.zeros(RATE, np.float32), RATE)])
    assert (silence.spread == LEAST_SPREAD).all()
