"""The store of tokens: the same however it was made, gone on with after a kill, refused where it is damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tasks.language.conftest import documents

from gatewise.tasks.errors import InputError
from gatewise.tasks.language import store
from gatewise.tasks.language.store import ABOUT, PARTIAL, PROGRESS, TOKENS, Tokens, read_tokens, tokens_of
from gatewise.tasks.text import sources as reading
from gatewise.tasks.text.sources import sources
from gatewise.tasks.text.tokenizers import Bytes, Chars, SubWords, Tokenizer

TEXTS = ["The first document.\n" * 30, "Die zweite hat Ümläute.\n" * 20, "x"]


@pytest.fixture(params=["char", "byte", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    found = sources(TEXTS)
    return {"char": Chars.learn, "byte": lambda _: Bytes(), "bpe": lambda s: SubWords.learn(s, 280)}[request.param](
        found
    )


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE", 64)
    monkeypatch.setattr(store, "SAVED", 3)


@pytest.mark.usefixtures("small_pieces")
def test_every_document_stands_after_an_end(tokenizer: Tokenizer, tmp_path: Path) -> None:
    told: list[int] = []
    tokens = tokens_of(sources(TEXTS), tokenizer, tmp_path, told.append)
    assert [tokenizer.decode(tokens.ids[a:b]) for a, b in tokens.spans] == TEXTS
    assert tokens.ids.dtype == tokenizer.dtype
    assert tokens.ends.tolist() == [a - 1 for a, _ in tokens.spans]
    assert told[-1] == sum(len(text.encode()) for text in TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [TOKENS, ABOUT]
    again = read_tokens(tmp_path, tokenizer)
    assert again.ids.tolist() == tokens.ids.tolist() == tokens_of(sources(TEXTS), tokenizer).ids.tolist()
    assert tokens.counts().tolist() == np.bincount(tokens.ids, minlength=tokenizer.size).tolist()


def test_what_is_there_for_the_same_text_is_used(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokens_of(sources(TEXTS), tokenizer, tmp_path)
    written = (tmp_path / TOKENS).stat().st_mtime_ns
    tokens_of(sources(TEXTS), tokenizer, tmp_path)
    assert (tmp_path / TOKENS).stat().st_mtime_ns == written
    assert len(tokens_of(sources(TEXTS[:1]), tokenizer, tmp_path).spans) == 1


@pytest.mark.usefixtures("small_pieces")
def test_an_interrupted_call_is_gone_on_with(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokens_of(sources(TEXTS), tokenizer).ids.tolist()

    def stop(done: int) -> None:
        if done > 700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokens_of(sources(TEXTS), tokenizer, tmp_path, stop)
    with (tmp_path / PARTIAL).open("ab") as file:
        file.write(b"half a piece")
    done = json.loads((tmp_path / PROGRESS).read_text())["done"]
    cut: list[int] = []
    encode = type(tokenizer).encode_piece
    monkeypatch.setattr(type(tokenizer), "encode_piece", lambda self, piece: cut.append(1) or encode(self, piece))
    assert tokens_of(sources(TEXTS), tokenizer, tmp_path).ids.tolist() == expected
    assert len(cut) == len(list(sources(TEXTS).pieces())) - done[0]
    assert done[0] >= 3


@pytest.mark.usefixtures("small_pieces")
def test_another_text_is_begun_anew(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done > 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokens_of(sources(TEXTS), tokenizer, tmp_path, stop)
    other = [TEXTS[0][::-1], TEXTS[1]]
    assert (
        tokens_of(sources(other), tokenizer, tmp_path).ids.tolist() == tokens_of(sources(other), tokenizer).ids.tolist()
    )


KILLED = """
import sys, time
from pathlib import Path
from gatewise.tasks.language import store
from gatewise.tasks.text import sources, tokenizers
sources.PIECE, store.SAVED = 1 << 12, 5
def slow(done):
    print(done, flush=True)
    time.sleep(0.005)
store.tokens_of(sources.sources(Path(sys.argv[1])), tokenizers.Bytes(), Path(sys.argv[2]), slow)
"""


def test_a_killed_process_loses_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, out = tmp_path / "text", tmp_path / "out"
    text.write_bytes(np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8).tobytes())
    out.mkdir()
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(text), str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 200_000:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = json.loads((out / PROGRESS).read_text())["done"]
    assert done[2] > 150_000
    monkeypatch.setattr(reading, "PIECE", 1 << 12)
    tokens = tokens_of(sources(text), Bytes(), out)
    assert tokens.ids[1:].astype(np.uint8).tobytes() == text.read_bytes()


def _sum(folder: Path, queue: object) -> None:
    queue.put(int(read_tokens(folder, Bytes()).ids.sum()))  # type: ignore[attr-defined]


def test_many_processes_read_one_file(tmp_path: Path) -> None:
    expected = int(tokens_of(sources(TEXTS), Bytes(), tmp_path).ids.sum())
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    queue = context.Queue()
    processes = [context.Process(target=_sum, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == [expected] * 3
    for process in processes:
        process.join()


def test_damage_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokens_of(sources(TEXTS), tokenizer, tmp_path)
    path = tmp_path / TOKENS
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"\0", bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"tokens\.bin is damaged"):
            read_tokens(tmp_path, tokenizer)
    path.unlink()
    with pytest.raises(InputError, match=r"tokens\.bin cannot be read"):
        read_tokens(tmp_path, tokenizer)
    with pytest.raises(InputError, match=r"tokens\.json is foreign"):
        read_tokens(tmp_path, Chars("other"))


def test_text_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    file, out = tmp_path / "old.txt", tmp_path / "out"
    file.write_bytes(b"caf\xe9\n")
    out.mkdir()
    with pytest.raises(InputError, match="byte 3"):
        tokens_of(sources(file), Chars("caf\n"), out)
    assert list(out.iterdir()) == []


def test_the_last_part_begins_with_a_document_where_one_is_near() -> None:
    tokens = documents(*["abcdefgh" * 5] * 20)
    first, last = tokens.split(0.1)
    assert (len(first.spans), len(last.spans)) == (18, 2)
    assert last.ids[0] == tokens.end
    first, last = documents("abcdefgh" * 100).split(0.1)
    assert len(last) == 80
    assert [b - a for a, b in last.spans] == [80]
    assert first.ids.tolist() + last.ids.tolist() == documents("abcdefgh" * 100).ids.tolist()


def test_nothing_is_no_text(tmp_path: Path) -> None:
    tokens = tokens_of(sources([""]), Bytes(), tmp_path)
    assert len(tokens) == 0
    assert tokens.spans == []
    assert len(read_tokens(tmp_path, Bytes())) == 0
    assert Tokens(np.zeros(0, np.uint8), 3).counts().tolist() == [0, 0, 0, 0]


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """100 MB of text while all pieces of a window lie in memory: a few dozen MB at most."""
    text = tmp_path / "text"
    with text.open("wb") as file:
        for _ in range(100):
            file.write(b"All work and no play. " * 45_000 + b"\n")
    code = (
        "import resource, sys; from pathlib import Path; from gatewise.tasks.language.store import tokens_of;"
        "from gatewise.tasks.text.sources import sources; from gatewise.tasks.text.tokenizers import Chars;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10; before = peak();"
        "found = sources(Path(sys.argv[1])); chars = Chars.learn(found); tokens = tokens_of(found, chars);"
        "print(peak() - before, len(tokens))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(text)], capture_output=True, text=True, check=True)
    grown, count = map(int, ran.stdout.split())
    assert count == os.path.getsize(text) + 1
    assert grown < 80
