"""The transcriber as a task: it learns, a text depends on its recording alone, runs go on to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tasks.transcribe.conftest import RATE, SMALL, sentences, spoken, written

import gatewise as gw
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import sha256
from gatewise.tasks.transcribe import store
from gatewise.tasks.transcribe.corpus import TRAINING, VALIDATION
from gatewise.tasks.transcribe.network import SpeechNetwork
from gatewise.tasks.transcribe.writing import emitted

TINY: dict[str, Any] = {**SMALL, "hidden_size": 8, "max_steps": 8}
NEW = sentences(12, seed=99)


def weights(model: gw.Transcriber) -> dict[str, torch.Tensor]:
    return model.fitted().state_dict()


def same(one: gw.Transcriber, other: gw.Transcriber) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_is_scored_beside_a_guess(both: gw.Transcriber, tmp_path: Path) -> None:
    assert list(both.scores) == ["gru", "most frequent transcript"]
    scores = both.score(written(tmp_path, NEW, "test.tsv"))
    assert scores["gru"]["WER"] < 10 < 60 < scores["most frequent transcript"]["WER"]
    assert scores["gru"]["CER"] <= scores["gru"]["WER"]
    found = both.evaluation
    assert found is not None
    assert found.said == NEW
    assert len(found.worst) == sum(a != b for a, b in zip(NEW, found.written["gru"], strict=True))


@pytest.mark.parametrize("kind", ["both", "forward"])
def test_a_text_depends_on_its_own_recording_alone(kind: str, request: pytest.FixtureRequest) -> None:
    model: gw.Transcriber = request.getfixturevalue(kind)
    frames = [model.normalised(_frames(model, spoken(text, k))) for k, text in enumerate(NEW)]
    together = emitted(model.network, frames)
    for own, wanted in zip(frames, together, strict=True):
        assert (emitted(model.network, [own])[0] == wanted).all()
    plain = model.network(torch.from_numpy(frames[0])[None], torch.tensor([len(frames[0])]))
    assert together[0] == pytest.approx(plain[:, 0].detach().numpy(), abs=1e-4)


def _frames(model: gw.Transcriber, samples: Any) -> Any:
    from gatewise.tasks.transcribe.features import log_mel

    return log_mel(model.samples(samples), model.options.sample_rate)


@pytest.mark.parametrize(("rate", "size"), [(16000, 160), (16000, 1111), (44100, 4410), (8000, 50)])
def test_live_text_is_that_of_the_whole_recording(forward: gw.Transcriber, rate: int, size: int) -> None:
    for how in ({}, {"beam": 4, "lm": "transcripts"}):
        whole = np.concatenate([spoken(text, k, rate) for k, text in enumerate(NEW[:4])])
        wanted = forward.transcribe([(whole, rate)], **how)[0][0].text
        live = forward.live(rate, **how)
        texts = [live.push(whole[k : k + size]) for k in range(0, len(whole), size)]
        assert live.finish() == wanted == live.text
        assert len(set(texts)) > 3
        if not how:  # what is written stays
            assert all(wanted.startswith(text) for text in texts)
        with pytest.raises(InputError, match="the recording is finished"):
            live.push(whole[:5])


@pytest.mark.parametrize("how", [{}, {"beam": 4, "lm": "transcripts"}])
def test_live_text_is_cut_at_pauses(forward: gw.Transcriber, how: dict[str, Any]) -> None:
    silence = spoken("     ")
    whole = np.concatenate([spoken("CAD AB"), silence, spoken("DA AB"), silence, spoken("CAD")])
    found = []
    for size in (160, 5000, len(whole)):
        live = forward.live(pause=0.6, **how)
        for k in range(0, len(whole), size):
            live.push(whole[k : k + size])
        found.append((live.finish(), live.finished))
    assert found[0] == found[1] == found[2]
    last, finished = found[0]
    assert [*finished, last] == ["CAD AB", "DA AB", "CAD"]
    with pytest.raises(InputError, match="pause must be"):
        forward.live(pause=0)


@pytest.mark.parametrize(("window", "kernels"), [(4, 0), (5, 0), (9, 0), (4, 3), (9, 3)])
@pytest.mark.parametrize("count", [400, 401, 1039, 2000])
def test_live_probabilities_have_the_bits_of_the_whole(window: int, kernels: int, count: int) -> None:
    from gatewise.tasks.transcribe.live import _Steps

    torch.manual_seed(0)
    network = SpeechNetwork(
        gw.cells.lstm, 5, 7, 2, stride=4, window=window, bidirectional=False, lookahead=3, dropout=0.1, kernels=kernels
    ).eval()
    assert network.ahead is not None
    torch.nn.init.normal_(network.ahead)
    frames = np.random.default_rng(count).normal(size=(count // 20, 80)).astype(np.float32)
    steps = _Steps(network)
    parts = [steps.push(frames[k : k + 7], last=False) for k in range(0, len(frames), 7)]
    found = np.concatenate([*parts, steps.push(frames[:0], last=True)])
    assert (found == emitted(network, [frames])[0]).all()


def test_what_cannot_listen_says_so(both: gw.Transcriber, forward: gw.Transcriber, tones: Path) -> None:
    with pytest.raises(InputError, match="reads recordings in both directions"):
        both.live()
    options = {**TINY, "max_steps": 1, "direction": "forward", "normalise": "utterance"}
    with pytest.raises(InputError, match="the model normalises frames by each utterance"):
        gw.Transcriber(**options).fit(tones).live()
    for samples in (np.zeros(5, np.int16), np.zeros((5, 2)), [0.0], np.full(5, np.nan)):
        with pytest.raises(InputError, match="samples must be"):
            forward.live().push(samples)  # type: ignore[arg-type]


def test_texts_with_times_and_alternatives(both: gw.Transcriber, forward: gw.Transcriber) -> None:
    recording = np.concatenate([spoken("      "), spoken("CAD CBB")])
    (best,) = both.transcribe([recording])[0]
    assert best.text == "CAD CBB"
    first, second = best.words
    assert (first.word, second.word) == ("CAD", "CBB")
    assert 0.9 < first.start < first.end <= second.start < second.end < 2.6
    several = forward.transcribe([recording], n_best=3, lm="transcripts", lm_unit="char")[0]
    assert several[0].text == "CAD CBB"
    assert len({one.text for one in several}) == 3
    assert [one.score for one in several] == sorted((one.score for one in several), reverse=True)
    only = both.transcribe([recording], words=["DA", "CBB"])[0][0].text
    assert set(only.split()) <= {"DA", "CBB"}


def test_a_language_models_run_steers_the_search(both: gw.Transcriber, tmp_path: Path) -> None:
    lines = ["\n".join(sentences(200))]
    model = gw.LanguageModel(hidden_size=16, embedding_size=8, max_steps=30, batch_size=4, sequence_length=16)
    model.fit(lines, directory=tmp_path / "lm")
    found = both.transcribe([spoken("CAD CBB")], lm=tmp_path / "lm", beam=4)[0][0]
    assert found.text == "CAD CBB"
    guide = both.guide()
    assert guide.scorer is None
    from gatewise.tasks.transcribe.runs import RunScorer

    scorer = RunScorer(tmp_path / "lm", "ABCD")
    state, total = scorer.start(), 0.0
    for letter in "CAD CBB":
        state, logs = scorer.extend(state, letter)
        total += logs
    assert total == pytest.approx(model.logprobs("CAD CBB").sum(), rel=1e-4)
    with pytest.raises(InputError, match="no character 'X'"):
        RunScorer(tmp_path / "lm", "AX")


def test_a_run_goes_on_to_the_bit_and_needs_no_recordings(tmp_path: Path) -> None:
    data = written(tmp_path / "sound", sentences(30), speakers=12)
    options = {**TINY, "max_steps": 30, "speeds": "0.9,1,1.1", "noise": 0.5, "time_masks": 1, "frequency_masks": 1}
    options |= {"dropout": 0.2, "average": 0.9, "normalise": "speaker", "units": "bpe", "vocabulary_size": 12}
    whole = gw.Transcriber(**options).fit(data)

    class Interrupt(Exception):
        pass

    class Stops:
        def __init__(self, *_: Any) -> None: ...
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...
        def step(self, step: int, *_: Any) -> None:
            if step == 28:
                raise KeyboardInterrupt

        def epoch(self, *_: Any) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        gw.Transcriber(**options).fit(data, directory=tmp_path / "run", report=Stops)  # type: ignore[arg-type]
    for file in (tmp_path / "sound").glob("*.wav"):
        file.unlink()
    resumed = gw.Transcriber.resume(tmp_path / "run")
    assert same(whole, resumed)
    assert [e.value for e in resumed.history.epochs] == [e.value for e in whole.history.epochs]
    loaded = gw.Transcriber.load(tmp_path / "run")
    assert same(loaded, whole)
    assert loaded.history.kept_last
    assert loaded.history.kept == resumed.history.epochs[-1]
    assert loaded.predict() == whole.predict()
    whole.save(tmp_path / "saved")
    assert gw.Transcriber.load(tmp_path / "saved").predict() == whole.predict()


def test_resuming_with_other_recordings_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path, sentences(12))
    gw.Transcriber(**TINY).fit(data, directory=tmp_path / "run")
    assert gw.Transcriber.resume(tmp_path / "run", data, **TINY).scores
    soundfile.write(tmp_path / "train-3.wav", spoken("DA"), RATE)
    with pytest.raises(InputError, match=r"data: differs from what the run in .* was started with"):
        gw.Transcriber.resume(tmp_path / "run", data)


def test_too_long_transcripts_are_listed_by_name(tmp_path: Path) -> None:
    data = written(tmp_path, sentences(12))
    soundfile.write(tmp_path / "train-2.wav", spoken("A")[:4000], RATE)
    rows = data.read_text().splitlines()
    rows[2] = "train-2.wav\tAABBAABB"
    data.write_text("\n".join(rows) + "\n")
    model = gw.Transcriber(**TINY).fit(data)
    assert model.left_out == [("train-2.wav", "its transcript needs 12 steps of 40 ms, but its sound has 6")]
    data.write_text("".join(f"train-2.wav\t{'AB' * 30}\n" for _ in range(3)))
    with pytest.raises(InputError, match=r"no recording is long enough for its transcript; train-2.wav: its"):
        gw.Transcriber(**TINY).fit(data, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_interrupted_cache_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gatewise.tasks.transcribe.recordings import recordings
    from gatewise.tasks.transcribe.store import Item, opened, stored

    items = [Item(one.name, one.clip) for one in recordings(written(tmp_path / "sound", sentences(7))).utterances]
    whole = stored(items, RATE)
    monkeypatch.setattr(store, "SAVED", 2)
    real, done = store.log_mel, []

    def stops(*given: Any) -> Any:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(1)
        return real(*given)

    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(store, "log_mel", stops)
    with pytest.raises(KeyboardInterrupt):
        stored(items, RATE, tmp_path / "cache")
    assert json.loads((tmp_path / "cache" / store.PROGRESS).read_text())["frames"] == list(whole.counts[:4])
    del done[:]
    again = stored(items, RATE, tmp_path / "cache")
    assert len(done) == 3
    assert again.counts == whole.counts
    assert all((again[k] == whole[k]).all() for k in range(7))
    path = tmp_path / "cache" / store.STORED
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"features.bin is damaged"):
        opened(tmp_path / "cache")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("utterances.json", lambda saved: saved["parts"].pop("validation")),
        ("utterances.json", lambda saved: saved["parts"]["training"][0].update(text=3)),
        ("utterances.json", lambda saved: saved["parts"]["training"][0].update(items=[10**6])),
        ("utterances.json", lambda saved: saved["statistics"].update(mean=[0.0])),
        ("utterances.json", lambda saved: saved.update(units={"kind": "char"})),
        ("features.json", lambda saved: saved.update(frames=[1, -1])),
        ("features.json", lambda saved: saved.update(faults="none")),
    ],
)
def test_a_damaged_run_gets_a_sentence(
    run_folder: Path, tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object]
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    path, config = tmp_path / "run" / file, tmp_path / "run" / "config.json"
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    described = json.loads(config.read_text())
    described["sha256"][file] = sha256(path)  # as a stranger would make it
    config.write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"is damaged|are foreign"):
        gw.Transcriber.load(tmp_path / "run").predict()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    gw.Transcriber(**{**TINY, "max_steps": 1}).fit(written(folder / "sound", sentences(6)), directory=folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_two_processes_share_the_batches(tmp_path: Path) -> None:
    data = written(tmp_path, sentences(24))
    options = {**TINY, "speeds": "0.9,1,1.1", "noise": 0.3}
    one, two = (gw.Transcriber(**options, devices=devices).fit(data) for devices in (1, 2))
    losses = [[epoch.loss for epoch in model.history.epochs] for model in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert one.history.kept_last
    assert two.history.kept_last
    assert list(two.scores) == ["gru", "most frequent transcript"]


def test_silent_recordings_are_told(tmp_path: Path) -> None:
    data = written(tmp_path, sentences(12))
    soundfile.write(tmp_path / "train-4.wav", np.zeros(3 * RATE), RATE)
    model = gw.Transcriber(**TINY).fit(data)
    assert model.faults == [("train-4.wav", "it is silent")]


def test_validation_recordings_may_be_given(tmp_path: Path) -> None:
    data, held = written(tmp_path, sentences(8)), written(tmp_path, NEW[:3], "val.tsv")
    model = gw.Transcriber(**TINY).fit(data, validation=held)
    assert model.corpus is not None
    assert [len(model.corpus.parts[part]) for part in (TRAINING, VALIDATION)] == [8, 3]
    assert len(model.predict()) == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speeds": "0.9"}, "speeds must be different numbers from 0.5 to 2 with commas, 1 among them"),
        ({"window": 2}, "window must be at least stride, 4, got 2"),
        ({"direction": "back"}, "direction must be one of both, forward, got 'back'"),
        ({"units": "words"}, "units must be one of char, bpe, got 'words'"),
    ],
)
def test_bad_options_get_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        gw.Transcriber(**options)


@pytest.mark.parametrize("sounds", ["a.wav", [3], [np.zeros(5, np.int16)], [np.zeros((2, 2, 2))], [np.zeros(0)]])
def test_what_is_no_recording_gets_a_sentence(both: gw.Transcriber, sounds: Any) -> None:
    with pytest.raises(InputError):
        both.transcribe(sounds)
