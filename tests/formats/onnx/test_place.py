"""What is written over by force alone."""

from pathlib import Path

import pytest

from gatewise.errors import InputError
from gatewise.formats.onnx.place import new_file


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
        with pytest.raises(InputError, match=words):
            new_file(path, ".onnx")
    assert new_file(there, ".onnx", force=True) == there
    with pytest.raises(InputError, match="exists"):
        new_file(tmp_path / "d.onnx", ".onnx", force=True)
    with pytest.raises(InputError, match="got int"):
        new_file(3, ".onnx")  # type: ignore[arg-type]
