"""Files are written whole or not at all, and read with a sentence when something is wrong."""

import os
from pathlib import Path

import pytest
import torch

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import (
    nothing_on_error,
    prepare,
    read_json,
    read_tensors,
    write_bytes,
    write_json,
    write_tensors,
)


def test_tensors_and_metadata_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor([1, 2], dtype=torch.uint8)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"note": "é"})
    read, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"note": "é"}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_json_has_null_for_not_a_number(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", {"score": float("nan"), "list": [1.5, float("inf")]})
    assert read_json(tmp_path / "m.json") == {"score": None, "list": [1.5, None]}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x80\x04\x95pickle", b"\xff" * 64])
def test_foreign_tensors_get_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="damaged or not a safetensors file"):
        read_tensors(tmp_path / "model.safetensors")


def test_truncated_tensors_get_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.randn(100)})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged or not a safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize(("content", "message"), [("{", "cannot be read as JSON"), ("[1]", "expected a JSON object")])
def test_foreign_json_gets_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "config.json")


def test_an_output_directory_must_be_new_and_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        prepare(tmp_path / "file" / "run")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="already holds a run"):
        prepare(tmp_path)


def broken(folder: Path, error: type[BaseException]) -> None:
    """Make a directory and a file in it, and fail."""
    with nothing_on_error(folder):
        write_bytes(prepare(folder) / "f", b"new")
        raise error


def test_what_a_failed_block_made_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    for folder in (tmp_path / "a" / "b", tmp_path):
        with pytest.raises(InputError):
            broken(folder, InputError)
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    with pytest.raises(KeyboardInterrupt):
        broken(tmp_path / "a", KeyboardInterrupt)
    assert (tmp_path / "a" / "f").exists()


def test_a_file_for_a_directory_and_no_name_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file, expected the directory of a model"):
        read_json(tmp_path / "file" / "config.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputError, match=r"config.json is a directory, expected a file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(InputError, match="output directory must have a name"):
        prepare("")
