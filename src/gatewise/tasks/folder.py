"""Files of a run or model directory: written whole or not at all, read with a sentence when something is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save
from torch import Tensor

from gatewise.tasks.claim import PART, Claim, claim_on, claimed
from gatewise.tasks.errors import InputError, WriteError, reason
from gatewise.writing import LOOSE, refused, write_beside

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.json"
METRICS_CSV = "metrics.csv"
"""The epochs of a training as a table, for spreadsheets and logs."""


@contextlib.contextmanager
def new_run(directory: str | Path | None, names: Iterable[str]) -> Iterator[Path | None]:
    """A directory for a new run, held while it is written; None: there is to be none.

    After an error a run with a model stays; of another what this call wrote is removed, and nothing else. Ctrl-C leaves
    whatever can be resumed.

    Args:
        directory: of the run. names: of the files that it will write; none of them may be there.

    Raises:
        InputError: when it holds a run or one of these files, or another process holds it.
        WriteError: when it cannot be written, or no longer; the sentence says what was kept.
    """
    if directory is None:
        yield None
        return
    with claimed(directory, check=partial(_check_new, tuple(names))) as claim:
        try:
            yield claim.folder
        except BaseException as error:
            needed = WEIGHTS if isinstance(error, Exception) else CONFIG
            kept = claim.holds() and (claim.folder / needed).exists()
            if not kept:
                claim.take_back()
            with _ending(claim, resumable=True):
                raise


@contextlib.contextmanager
def old_run(directory: Path) -> Iterator[None]:
    """The directory of a run that is gone on with, held while it is written. Nothing is ever removed after an error.

    Raises:
        InputError: when another process holds it.
        WriteError: when it cannot be written, or no longer; the sentence says what was kept.
    """
    with claimed(directory, "run directory") as claim, _ending(claim, resumable=True):
        yield


@contextlib.contextmanager
def whole(directory: str | Path | None, names: Iterable[str] = (), locked: bool = True) -> Iterator[None]:
    """A directory that gets some files or, after any error, none; None: there is to be no directory.

    Args:
        directory: to be written. names: of files that may not be there yet. locked: whether others are kept out.

    Raises:
        InputError: when it holds a run or one of these files, or another process holds it.
        WriteError: when it cannot be written.
    """
    if directory is None:
        yield
        return
    names = tuple(names)
    with claimed(directory, locked=locked, check=partial(_check_new, names) if names else None) as claim:
        try:
            yield
        except BaseException:
            claim.take_back()
            with _ending(claim):
                raise


def _check_new(names: tuple[str, ...], folder: Path, left: bool) -> None:
    """Refuse a directory with a run, or with files that would be written over, unless a killed process left them."""
    if (folder / CONFIG).exists():
        raise InputError(
            f"output directory {folder} already holds a run; resume it or choose another directory",
            typed=" (--resume goes on with it)",
        )
    for name in names:
        if (folder / name).exists() and not left:
            raise InputError(
                f"output directory {folder} already holds a file {name}, which a run would write over; choose another "
                "directory"
            )


@contextlib.contextmanager
def _ending(claim: Claim, resumable: bool = False) -> Iterator[None]:
    """Where a directory can be written or read no longer, say so in one sentence, with what is left of a run in it."""
    try:
        yield
    except OSError as error:
        claim.check()  # raises when the directory has gone
        if error.filename is None or Path(error.filename).parent != claim.folder:
            raise
        refused = f"{error.filename} cannot be read or written: {reason(error)}"
        raise (_ended(refused, claim.folder) if resumable else WriteError(refused)) from error
    except InputError as error:
        if not resumable or not claim.holds():
            raise
        if isinstance(error, WriteError):
            raise _ended(str(error), claim.folder) from error
        if (claim.folder / WEIGHTS).exists():
            raise InputError(f"{error}; {claim.folder} keeps the best model so far") from error
        raise


def _ended(sentence: str, folder: Path) -> WriteError:
    return WriteError(f"{sentence}; {state(folder)}", typed=typed(folder))


def state(folder: Path) -> str:
    """What a training that ended early left."""
    if (folder / WEIGHTS).exists():
        return f"{folder} keeps the best model so far"
    if (folder / CONFIG).exists():
        return f"{folder} holds no model yet, since no epoch was finished"
    return "nothing was written"


def typed(folder: Path) -> str:
    """What is typed to go on with it: the end of ``state`` on the command line."""
    if (folder / WEIGHTS).exists():
        return ", --resume goes on"
    return "; --resume starts it anew" if (folder / CONFIG).exists() else ""


def writable(directory: str | Path) -> Path:
    """Make a directory if there is none, and prove that it can be written.

    Raises:
        WriteError: when it cannot be made or written.
    """
    with claimed(directory, locked=False) as claim:
        return claim.folder


def new_file(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    """The path of a file to be written, which must not exist yet, in a directory that can be written.

    Raises:
        InputError: when it exists, has another suffix, or its directory cannot be written.
    """
    file = Path(path)
    if file.suffix.lower() not in suffixes or not file.stem:
        raise InputError(f"output file must end in {' or '.join(suffixes)}, got {str(path)!r}")
    if file.exists():
        raise InputError(f"output file {file} exists; choose another name or remove it")
    return writable(file.parent) / file.name


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while raw := file.read(1 << 22):
            digest.update(raw)
    return digest.hexdigest()


def check_sha256(path: Path, expected: Any) -> None:
    """Refuse a file that is not the one whose SHA-256 was noted; None: nothing was noted.

    Raises:
        InputError: when it differs, or cannot be read.
    """
    try:
        found = None if expected is None else sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    if found != expected:
        raise InputError(f"{path} is damaged: its SHA-256 is not the one noted when the run was written")


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a reader, a crash or a power failure never leaves half a file.

    Raises:
        WriteError: when it cannot be written; what was there before is still there.
    """
    claim = claim_on(path.parent)
    if claim is not None:
        claim.check()
    ending = LOOSE if claim is None or claim.lock is None else PART
    write_beside(path, content, ending, partial(claim.note, path) if claim is not None else lambda _: None)


def remove(path: Path) -> None:
    """Remove a file of a run that is no longer needed, where there is one.

    Raises:
        WriteError: when the system refuses.
    """
    claim = claim_on(path.parent)
    if claim is not None:
        claim.check()
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(refused(path, error)) from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; not-a-number becomes null, since JSON has none."""
    write_bytes(path, dumps(value).encode())


def dumps(value: Any) -> str:
    """A value as indented JSON text."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors in the safetensors format."""
    write_bytes(path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: when the file is missing or does not hold one.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is a device or a pipe, expected a file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not a model directory: {path.name} is missing") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is a file, expected the directory of a model") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory, expected a file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged: it cannot be read as JSON") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is foreign: expected a JSON object, got {type(value).__name__}")
    return value


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file. Nothing is ever unpickled.

    Raises:
        InputError: when the file is missing, truncated or of another format.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} holds no finished model: {path.name} is missing")
    try:
        path.open("rb").close()  # safetensors calls every file that it may not read a missing one
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    except (safetensors.SafetensorError, ValueError):
        raise InputError(f"{path} is damaged or not a safetensors file") from None
