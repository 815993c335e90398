"""Files are written whole or not at all, and read with a sentence when something is wrong."""

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from gatewise.tasks.errors import InputError, WriteError
from gatewise.tasks.folder import (
    CHECKPOINT,
    CONFIG,
    WEIGHTS,
    new_run,
    old_run,
    read_json,
    read_tensors,
    remove,
    whole,
    writable,
    write_bytes,
    write_json,
    write_tensors,
)

NAMES = (CONFIG, WEIGHTS, CHECKPOINT, "data.csv")


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
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match=r"f cannot be written: the disk is full$"):
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
    with pytest.raises(InputError, match="cannot be written: Not a directory"), new_run(tmp_path / "file", NAMES):
        pass
    with pytest.raises(InputError, match="cannot be written"), new_run(tmp_path / "file" / "run", NAMES):
        pass
    (tmp_path / "config.json").write_text("{}")
    with (
        pytest.raises(InputError, match=r"already holds a run; resume it or choose another directory$"),
        new_run(tmp_path, NAMES),
    ):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"file", "config.json"}


def test_a_file_that_a_run_would_write_over_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("mine")
    for open_new in (new_run, whole):
        with pytest.raises(InputError, match=r"already holds a file data\.csv"), open_new(tmp_path, NAMES):
            pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"data.csv": "mine"}


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on here")
    (tmp_path / "data.csv").write_text("half a run")
    with new_run(tmp_path, NAMES):
        write_bytes(tmp_path / "data.csv", b"new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"data.csv": "new"}


def broken(
    place: AbstractContextManager[object], folder: Path, files: tuple[str, ...], error: type[BaseException]
) -> None:
    """Make files in a directory, twice over, and fail."""
    with place:
        for content in (b"first", b"second"):
            for name in files:
                write_bytes(folder / name, content)
        (folder / "another's").write_text("made meanwhile by somebody else")
        raise error


@pytest.mark.parametrize("open_new", [new_run, whole])
def test_what_a_failed_block_made_is_taken_back_and_nothing_else(
    tmp_path: Path, open_new: Callable[..., AbstractContextManager[object]]
) -> None:
    (tmp_path / "old").write_text("")
    for folder in (tmp_path / "a" / "b", tmp_path):
        for error in (InputError, RuntimeError, KeyboardInterrupt):
            with pytest.raises(error):
                broken(open_new(folder, NAMES), folder, ("data.csv", CHECKPOINT), error)
            assert {path.name for path in folder.iterdir()} - {"old", "a"} == {"another's"}
            (folder / "another's").unlink()
    assert not list((tmp_path / "a" / "b").iterdir()), "it was there before the last two blocks"
    with pytest.raises(InputError):
        broken(open_new(tmp_path / "c" / "d", NAMES), tmp_path / "c" / "d", ("data.csv",), InputError)
    (tmp_path / "c" / "d" / "another's").unlink()


def test_directories_that_were_made_go_when_nothing_is_left(tmp_path: Path) -> None:
    def fail() -> None:
        with new_run(tmp_path / "a" / "b", NAMES):
            write_bytes(tmp_path / "a" / "b" / CONFIG, b"{}")
            raise InputError

    with pytest.raises(InputError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_replaced_is_not_taken_back(tmp_path: Path) -> None:
    def fail() -> None:
        with whole(tmp_path):
            write_bytes(tmp_path / "f", b"ours")
            (tmp_path / "other").write_text("theirs")
            (tmp_path / "other").replace(tmp_path / "f")
            raise InputError

    with pytest.raises(InputError):
        fail()
    assert (tmp_path / "f").read_text() == "theirs"


def test_a_file_that_was_there_stays_also_when_it_was_written_over(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")

    def fail() -> None:
        with whole(tmp_path, locked=False):
            write_bytes(tmp_path / "f", b"new")
            raise InputError

    with pytest.raises(InputError):
        fail()
    assert (tmp_path / "f").read_text() == "new"


@pytest.mark.parametrize(
    ("files", "error", "sentence"),
    [
        ((CONFIG, WEIGHTS), InputError, "; .* keeps the best model so far$"),
        ((CONFIG, WEIGHTS, CHECKPOINT), RuntimeError, "^$"),
        ((CONFIG, WEIGHTS, CHECKPOINT), KeyboardInterrupt, "^$"),
        ((CONFIG,), KeyboardInterrupt, "^$"),
    ],
)
def test_a_run_with_a_model_stays_and_after_ctrl_c_any_run(
    tmp_path: Path, files: tuple[str, ...], error: type[BaseException], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        broken(new_run(tmp_path, NAMES), tmp_path, files, error)
    assert {path.name for path in tmp_path.iterdir()} == {*files, "another's"}
    with pytest.raises(error):
        broken(old_run(tmp_path), tmp_path, (*files, "data.csv"), error)
    assert {path.name for path in tmp_path.iterdir()} == {*files, "another's", "data.csv"}


def test_a_file_that_cannot_be_read_or_removed_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).mkdir()
    with (
        pytest.raises(WriteError, match=r"cannot be written: .*; nothing was written$"),
        old_run(tmp_path),
    ):
        remove(tmp_path / CHECKPOINT)
    with pytest.raises(WriteError, match=r"data\.csv cannot be read or written: No such file.*; "), old_run(tmp_path):
        (tmp_path / "data.csv").read_bytes()
    with pytest.raises(FileNotFoundError), old_run(tmp_path):
        Path("elsewhere").read_bytes()


def test_a_file_for_a_directory_and_no_name_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file, expected the directory of a model"):
        read_json(tmp_path / "file" / "config.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputError, match=r"config.json is a directory, expected a file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(InputError, match="output directory must have a name"):
        writable("")
