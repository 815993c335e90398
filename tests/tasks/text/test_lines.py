"""Lines of files: what cannot be read gets a sentence and takes no memory."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest

from gatewise.tasks import InputError
from gatewise.tasks.folder import read_json
from gatewise.tasks.text import lines
from gatewise.tasks.text.lines import read_lines


def test_lines_of_plain_and_gzipped_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\n\nfour".encode())
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    assert read_lines(tmp_path / "a.txt") == ["one", "two", "", "four"]
    assert read_lines(tmp_path / "a.gz") == ["one", "two"]


def test_a_small_file_that_unpacks_to_too_much_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_BYTES", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"a\n" * 10**6))
    with pytest.raises(InputError, match=r"bomb.gz is larger than 1,000 bytes \(unpacked\)"):
        read_lines(tmp_path / "bomb.gz")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in directories")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match="is not a regular file"):
        read_lines(tmp_path / "config.json")
    with pytest.raises(InputError, match="is a device or a pipe"):
        read_json(tmp_path / "config.json")
