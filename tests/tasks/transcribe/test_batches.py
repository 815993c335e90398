"""How recordings are heard in training: batches by duration, masks, noise; and the units of transcripts."""

from __future__ import annotations

import numpy as np
import pytest
from tasks.transcribe.conftest import RATE, sentences, spoken

from gatewise.tasks.errors import InputError
from gatewise.tasks.transcribe.batches import Masks, batch_of, by_duration, with_noise
from gatewise.tasks.transcribe.features import BANDS, log_mel
from gatewise.tasks.transcribe.units import BLANK, Units, steps_needed


def test_a_pass_has_every_recording_once_in_batches_of_a_duration() -> None:
    lengths = np.random.default_rng(0).integers(50, 700, size=500)
    lengths[7] = 5000  # longer than a batch
    passes = [list(by_duration(lengths, 3000, np.random.default_rng(seed))) for seed in (1, 1, 2)]
    for cuts in passes:
        assert sorted(np.concatenate(cuts).tolist()) == list(range(500))
        assert all(len(cut) * lengths[cut].max() <= 3000 or len(cut) == 1 for cut in cuts)
        padded = sum(len(cut) * lengths[cut].max() for cut in cuts)
        assert lengths.sum() / padded > 0.9
    assert all((a == b).all() for a, b in zip(passes[0], passes[1], strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(passes[0], passes[2], strict=False))


def test_a_batch_is_padded_and_shared_by_rows() -> None:
    frames = [np.full((n, BANDS), n, np.float32) for n in (3, 5, 4)]
    batch = batch_of(frames, [[1, 2], [3], [2, 2, 2]])
    assert batch.frames.shape == (3, 5, BANDS)
    assert batch.frames[0, 3:].eq(0).all()
    assert batch.lengths.tolist() == [3, 5, 4]
    assert batch.tokens.tolist() == [[1, 2, BLANK], [3, BLANK, BLANK], [2, 2, 2]]
    assert batch.token_lengths.tolist() == [2, 1, 3]
    shares = [batch.share(rank, 2) for rank in (0, 1)]
    assert [share.lengths.tolist() for share in shares] == [[3, 4], [5]]


def test_masks_hide_bands_and_stretches_up_to_their_widths() -> None:
    generator, frames = np.random.default_rng(0), np.ones((200, BANDS), np.float32)
    bands, stretches = [], []
    for _ in range(200):
        found = Masks(1, 20, 1, 30).hide(frames, generator)
        bands.append(int((found == 0).all(0).sum()))
        stretches.append(int((found == 0).all(1).sum()))
        whole = np.outer((found != 0).any(1), (found != 0).any(0))
        assert (found == whole).all()
    assert (min(bands), max(bands)) == (0, 20)
    assert (min(stretches), max(stretches)) == (0, 30)
    assert (frames == 1).all()
    short = [int((Masks(0, 1, 1, 30).hide(frames[:20], generator) == 0).all(1).sum()) for _ in range(100)]
    assert max(short) == 4  # a fifth of it


def test_noise_lies_as_far_below_the_speech_as_it_says() -> None:
    frames = log_mel(spoken("ABCD"), RATE)
    clean = np.exp(frames.astype(np.float64)).mean()
    ratios = []
    for seed in range(60):
        noisy = with_noise(frames, np.random.default_rng(seed))
        assert (noisy >= frames - 1e-4).all()
        added = np.exp(noisy.astype(np.float64)).mean() - clean
        ratios.append(10 * np.log10(clean / added))
    assert 4 < min(ratios) < 8
    assert 27 < max(ratios) < 31
    assert (with_noise(frames, np.random.default_rng(3)) == with_noise(frames, np.random.default_rng(3))).all()


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_units_give_transcripts_back(kind: str) -> None:
    texts = sentences(50)
    units = Units.learn(kind, texts, 14)
    assert units.letters == set("ABCD")
    for text in texts:
        tokens = units.encode(text)
        assert units.decode(tokens) == text
        assert BLANK not in tokens
        assert len(tokens) <= len(text) + (kind == "bpe")
    again = Units.from_json(units.to_json())
    assert again.pieces == units.pieces
    assert again.encode(texts[0]) == units.encode(texts[0])
    assert units.looks(BLANK) == "blank"
    with pytest.raises(InputError, match="have nothing to write"):
        units.encode("AXB")
    for value in (None, {"kind": "words"}, {"kind": "bpe", "library": {}}):
        with pytest.raises(InputError):
            Units.from_json(value)


def test_equal_tokens_need_a_step_between_them() -> None:
    assert [steps_needed(tokens) for tokens in ([], [1], [1, 2], [1, 1], [2, 2, 2, 1])] == [0, 1, 2, 3, 6]
