"""Files that hold tensors by name: read without running anything that is in them."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.errors import InputError, need, reason

TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")
METADATA = "gatewise"
"""Under which a file that Gatewise wrote says what the layers in it are."""
Flat = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors by name, and what the file says of itself."""


def read_flat(path: Path) -> Flat:
    """The tensors of a file by their names, levels separated by dots.

    Raises:
        InputError: when it cannot be read, is damaged, of another kind, or holds pickled code.
    """
    return _READERS[path.suffix.lower()](path)


def check_file(path: Path) -> None:
    """Refuse what is no file that can be read.

    Raises:
        InputError: with the reason.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path} is no file")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    except ValueError as error:  # a name with a zero in it
        raise InputError(f"{str(path)!r} cannot be read: {error}") from None
    if empty:
        raise InputError(f"{path} is empty")


def check_archive(path: Path) -> None:
    """Refuse an archive with an entry that points outside it.

    Raises:
        InputError: for such a one, and for what is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        raise InputError(f"{path} is damaged or no archive") from None
    for name in names:
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in name.split("/")[0]:
            raise InputError(f"{path} has an entry that points outside it: {name!r}")


def _torch(path: Path) -> Flat:
    check_file(path)
    if zipfile.is_zipfile(path):
        check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of an old pickle, which is refused in a sentence below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error) or "global" in str(error).lower():
            raise InputError(
                f"{path} holds pickled code or objects other than tensors, which Gatewise never executes; save the "
                "model's state_dict() instead"
            ) from None
        raise InputError(f"{path} is damaged, or torch did not write it") from None
    except Exception:  # what torch raises for a damaged file has many types
        raise InputError(f"{path} is damaged, or torch did not write it") from None
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict()), {}
    return _flattened(loaded), {}


def _flattened(tree: Any, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of nested dictionaries and lists by the names on the way to them; everything else is left out."""
    if isinstance(tree, Tensor):
        return {prefix.removesuffix("."): tree.detach()}
    if isinstance(tree, nn.Module):
        return _flattened(dict(tree.state_dict()), prefix)
    if hasattr(tree, "__array__"):
        array = np.asarray(tree)
        numbers = array.dtype.kind in "fiub" or array.dtype.name == "bfloat16"
        return {prefix.removesuffix("."): as_tensor(array)} if numbers else {}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    found: dict[str, Tensor] = {}
    for name, value in items:
        found |= _flattened(value, f"{prefix}{str(name).replace('/', '.')}.")
    return found


def as_tensor(value: Any) -> Tensor:
    """A tensor of an array of any framework; bfloat16, which numpy has not, stays bfloat16.

    Raises:
        InputError: for an array of no numbers.
    """
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    if array.dtype.kind not in "fiub":
        raise InputError(f"an array must hold numbers, got dtype {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def flattened(tree: Any) -> dict[str, Tensor]:
    """Tensors of nested dictionaries, lists and arrays of any framework, by the names on the way to them."""
    return _flattened(tree)


def _safetensors(path: Path) -> Flat:
    import safetensors

    check_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError, OSError):
        raise InputError(f"{path} is damaged or no safetensors file") from None


def _npz(path: Path) -> Flat:
    check_file(path)
    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise InputError(f"{path} holds pickled objects, which Gatewise never executes") from None
        raise InputError(f"{path} is damaged or no npz file") from None
    except (OSError, zipfile.BadZipFile, EOFError, SyntaxError, KeyError):
        raise InputError(f"{path} is damaged or no npz file") from None
    notes = {METADATA: str(arrays.pop(METADATA))} if METADATA in arrays else {}
    return _flattened(arrays), notes


def _msgpack(path: Path) -> Flat:
    check_file(path)
    restore = need("flax.serialization", "formats").msgpack_restore
    try:
        tree = restore(path.read_bytes())
    except Exception:  # msgpack's and numpy's errors have many types
        raise InputError(f"{path} is damaged, or Flax did not write it") from None
    if not isinstance(tree, Mapping):
        raise InputError(f"{path} must hold a tree of parameters, got {type(tree).__name__}")
    notes = tree.pop(METADATA, "") if isinstance(tree, dict) else ""
    return _flattened(tree), {METADATA: str(notes)} if notes else {}


_READERS: dict[str, Callable[[Path], Flat]] = dict.fromkeys(TORCH, _torch)
_READERS |= {".safetensors": _safetensors, ".npz": _npz, ".msgpack": _msgpack}
SUFFIXES = tuple(_READERS)
