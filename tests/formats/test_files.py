"""Files appear whole, and are written over by force alone."""

from pathlib import Path

import pytest

from gatewise.formats.errors import FormatError, need
from gatewise.formats.files import new_file, write


def test_names_that_are_refused(tmp_path: Path) -> None:
    there = tmp_path / "a.onnx"
    there.touch()
    (tmp_path / "d.onnx").mkdir()
    for path, words in [
        (tmp_path / "a.txt", "must end in .onnx"),
        (tmp_path / ".onnx", "must end in .onnx"),
        (there, "exists"),
        (tmp_path / "no" / "b.onnx", "is no directory"),
    ]:
        with pytest.raises(FormatError, match=words):
            new_file(path, ".onnx")
    assert new_file(there, ".onnx", force=True) == there
    with pytest.raises(FormatError, match="exists"):
        new_file(tmp_path / "d.onnx", ".onnx", force=True)
    with pytest.raises(FormatError, match="got int"):
        new_file(3, ".onnx")  # type: ignore[arg-type]


def test_written_beside_and_renamed(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    write(path, b"one")
    write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be written"):
        write(tmp_path / "no" / "a.onnx", b"one")


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(FormatError, match=r"no-such-thing is not installed; pip install 'gatewise\[onnx\]' brings it"):
        need("no_such_thing", "onnx")
