"""Reading text: every kind of source, in pieces, with the place of what is wrong."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.text import sources as module
from gatewise.tasks.text.sources import Sources, sources


def documents(found: Sources) -> list[str]:
    """Each document's text, put together from its pieces."""
    texts: list[bytes] = []
    for piece in found.pieces():
        if piece.first:
            texts.append(b"")
        texts[-1] += piece.raw
    return [text.decode() for text in texts]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few words are several pieces."""
    monkeypatch.setattr(module, "PIECE", 5)


def test_a_file_is_a_document_and_can_be_read_twice(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("Ein Löwe.\nNoch einer.", encoding="utf-8")
    found = sources(str(file))
    assert documents(found) == documents(found) == ["Ein Löwe.\nNoch einer."]
    assert documents(sources(file)) == documents(sources([file])) == documents(found)


def test_folders_and_globs_are_read_by_name_without_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("c.txt", "a.txt", "b/z.md", ".hidden"):
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "pipe")
    assert documents(sources(tmp_path)) == ["a.txt", "b/z.md", "c.txt"]
    assert documents(sources(str(tmp_path / "**" / "*.txt"))) == ["a.txt", "c.txt"]


def test_texts_and_the_embedded_default() -> None:
    assert documents(sources(["one", "", "two"])) == ["one", "two"]
    topics = documents(sources(None))
    assert len(topics) > 50
    assert sum(map(len, topics)) > 300_000


@pytest.mark.parametrize("packed", ["gz", "zst"])
def test_packed_files(packed: str, tmp_path: Path) -> None:
    text = "Über alles.\n" * 1000
    file = tmp_path / f"book.txt.{packed}"
    if packed == "zst":
        zstd: Any = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        whole = zstd.compress(text.encode())
    else:
        whole = gzip.compress(text.encode())
    file.write_bytes(whole)
    assert documents(sources(file)) == [text]
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"book.txt.* is damaged"):
        documents(sources(file))
    file.write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"book.txt.* is damaged or not"):
        sources(file)


def test_without_zstandard_a_sentence_names_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "book.zst"
    file.write_bytes(b"x")
    for name in ("backports.zstd", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'gatewise\[zstd\]'"):
        sources(file)


def test_a_log_hears_of_long_reading(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("gatewise.tasks.text.sources.SILENCE", 0.0)
    with caplog.at_level("INFO", "gatewise"):
        list(sources(["a" * (3 << 20), "b"]).pieces())
    assert caplog.messages[2] == "reading text: text 1, 3 MB so far"


def test_standard_input_and_pipes_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"from outside")))
    found = sources("-")
    assert documents(found) == documents(found) == documents(sources("-")) == ["from outside"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("through a pipe",))
    writer.start()
    found = sources(pipe)
    writer.join()
    assert documents(found) == documents(found) == ["through a pipe"]


@pytest.mark.usefixtures("small_pieces")
def test_a_separator_cuts_documents_wherever_pieces_end() -> None:
    whole = ["first", "second one", "ööö", "x" * 40]
    for separator in ("<|end|>", "\n\n", "--"):
        assert documents(sources([separator.join(["", *whole, ""])], separator)) == whole
    assert documents(sources(["a--b-c---d"], "--")) == ["a", "b-c", "-d"]


@pytest.mark.usefixtures("small_pieces")
def test_pieces_are_small_and_cut_no_character() -> None:
    text = "日本語のテキスト" * 20 + "🦁" * 20
    pieces = list(sources([text]).pieces())
    assert len(pieces) > 20
    assert "".join(piece.text for piece in pieces) == text


@pytest.mark.parametrize("size", [5, 1 << 20])
def test_what_is_not_utf8_is_located(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", size)
    file = tmp_path / "old.txt"
    for before in (b"gut ", "\ufefföö".encode(), b""):
        file.write_bytes(before + b"\xe4 caf\xc3")
        with pytest.raises(InputError, match=rf"old.txt, byte {len(before)}: not UTF-8 \(0xe4\)"):
            [piece.text for piece in sources(file).pieces()]
    raw = b"".join(piece.raw for piece in sources(file).pieces())
    assert raw == b"\xe4 caf\xc3"


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "windows.txt"
    file.write_bytes(b"\xef\xbb\xbfText")
    assert documents(sources(file)) == ["Text"]


def test_the_mark_changes_with_the_text(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("one")
    before = sources(file).mark
    assert sources(file).mark == before
    assert sources(file, "\n").mark != before
    file.write_text("other")
    assert sources(file).mark != before
    assert sources(["one"]).mark != sources(["two"]).mark


@pytest.mark.parametrize(
    ("data", "separator", "sentence"),
    [
        ("missing.txt", None, "there is no file"),
        ("*.missing", None, "no file matches"),
        ([], None, "got an empty list"),
        (7, None, "got int"),
        (["text", Path("book.txt")], None, "got both or others"),
        ("empty", None, "holds no files"),
        ("/dev/null", None, "neither a file nor a folder nor a pipe"),
        ("a\0b", None, "cannot be read: embedded null"),
        (["text"], "", "separator must be a text that is not empty"),
        (["text"], 3, "separator must be a text that is not empty"),
    ],
)
def test_what_is_no_source_gets_a_sentence(
    data: Any, separator: Any, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=sentence):
        sources(data, separator)


def test_names_of_files_are_not_taken_for_texts(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("text")
    with pytest.raises(InputError, match=r"use pathlib\.Path for files"):
        sources([str(file)])


def test_half_a_character_is_located() -> None:
    with pytest.raises(InputError, match=r"text 2, character 1: half a character \(U\+D83E\)"):
        list(sources(["fine", "a\ud83e"]).pieces())
