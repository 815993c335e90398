"""Files of a run or model directory: written whole or not at all, read with a sentence when something is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save
from torch import Tensor

from gatewise.tasks.errors import InputError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.json"


def prepare(directory: str | Path) -> Path:
    """Make a directory for a new run, and prove that it can be written.

    Raises:
        InputError: when it cannot be made or written, or already holds a run.
    """
    folder = writable(directory)
    if (folder / CONFIG).exists():
        raise InputError(
            f"output directory {folder} already holds a run; go on with it by --resume or choose another directory"
        )
    return folder


def writable(directory: str | Path) -> Path:
    """Make a directory if there is none, and prove that it can be written.

    Raises:
        InputError: when it cannot be made or written.
    """
    if not str(directory):
        raise InputError("output directory must have a name, got ''")
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"output directory {folder} cannot be written: {error.strerror or error}") from None
    return folder


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


@contextlib.contextmanager
def nothing_on_error(directory: str | Path | None) -> Iterator[None]:
    """Take back the files and directories that were made inside the block when it fails; Ctrl-C is no failure."""
    if directory is None:
        yield
        return
    folder = Path(directory)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    held = set(folder.iterdir()) if folder.is_dir() else set()
    try:
        yield
    except Exception:
        for path in set(folder.iterdir()) - held if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
        raise


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_sha256(path: Path, expected: Any) -> None:
    """Refuse a file that is not the one whose SHA-256 was noted; None: nothing was noted.

    Raises:
        InputError: when it differs.
    """
    if expected is not None and sha256(path) != expected:
        raise InputError(f"{path} is damaged: its SHA-256 is not the one noted when the run was written")


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a reader or a crash never sees half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not a model directory: {path.name} is missing") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is a file, expected the directory of a model") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory, expected a file") from None
    except (ValueError, OSError, RecursionError):
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
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError):
        raise InputError(f"{path} is damaged or not a safetensors file") from None
