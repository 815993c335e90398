"""Windows: each pass reads all tokens in order along its streams, and documents begin with a reset."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tasks.language.conftest import documents, network

from gatewise.tasks.errors import InputError
from gatewise.tasks.language.store import Tokens
from gatewise.tasks.language.streams import Streams


def test_streams_go_on_from_window_to_window() -> None:
    tokens = documents("abcdefgh" * 12, "hgfedcba" * 9)
    streams = Streams(tokens, 4, 7)
    windows = list(streams.windows_from(50))
    assert len(windows) == streams.windows == len(tokens) // 4 // 7
    given, wanted = (torch.cat([getattr(w, name) for w in windows]) for name in ("given", "wanted"))
    assert given.dtype == torch.int64
    assert given[1:].tolist() == wanted[:-1].tolist()
    ring = np.roll(tokens.ids, -50)
    for row in range(4):
        start = row * (len(tokens) // 4)
        assert wanted[:, row].tolist() == ring[start + 1 : start + 1 + len(wanted)].tolist()
    assert (given[0] == tokens.end).all()
    assert all(torch.equal(window.reset, window.given == tokens.end) for window in windows)


def test_a_pass_covers_all_but_a_rest_that_changes() -> None:
    tokens = Tokens(np.arange(100, dtype=np.uint8), 100)
    streams, generator = Streams(tokens, 3, 10), np.random.default_rng(0)
    passes = streams.passes(generator)
    seen = [sorted(w for _ in range(streams.windows) for w in next(passes).wanted.flatten().tolist()) for _ in range(3)]
    assert all(len(set(own)) == len(own) == 90 for own in seen)
    assert seen[0] != seen[1]
    assert set(seen[0]) | set(seen[1]) | set(seen[2]) == set(range(100))


def test_the_same_generator_gives_the_same_passes() -> None:
    streams = Streams(documents("abcdefgh" * 20), 2, 9)
    one, other = (streams.passes(np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(next(one).given, next(other).given) for _ in range(30))


def test_few_tokens_make_fewer_and_shorter_streams() -> None:
    streams = Streams(documents("abc"), 64, 128)
    (window,) = list(streams.windows_from(1))
    assert window.given.shape == (4, 1)
    with pytest.raises(InputError, match="the text to train on is empty"):
        Streams(Tokens(np.zeros(1, np.uint8), 0), 64, 128)


def test_a_share_is_some_of_the_streams() -> None:
    (window, *_) = Streams(documents("abcdefgh" * 20), 5, 9).windows_from(0)
    parts = [window.share(rank, 2) for rank in range(2)]
    assert [part.given.shape[1] for part in parts] == [3, 2]
    assert torch.equal(parts[1].wanted, window.wanted[:, 1::2])


def test_carried_states_give_what_one_long_window_gives() -> None:
    """The losses of windows with carried states are those of the whole stream, and nothing crosses documents."""
    tokens, made = documents("abcdefgh" * 4, "hgfe" * 5, "aaaa"), network()
    (whole,) = Streams(tokens, 1, len(tokens)).windows_from(0)
    expected, _ = made(whole)
    losses, state = [], None
    for window in Streams(tokens, 1, 1).windows_from(0):
        loss, state = made(window, state)
        losses.append(float(loss.detach()))
    assert np.mean(losses) == pytest.approx(float(expected.detach()), rel=1e-6)
    last, _ = made.run(whole.given[-5:], None)
    seen, _ = made.run(whole.given, None, whole.reset)
    assert torch.equal(seen[-5:], last)
