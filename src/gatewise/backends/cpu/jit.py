"""LLVM IR to machine code in this process, kept on disk between processes.

A kernel is asked for by a key. Its object file lies in the cache folder under the SHA-256 of everything that decides
its bytes, so nothing is ever invalidated: another key, tier, LLVM or compiler source is another name. One file holds
an object and its checksum; it is checked before LLVM sees it, because LLVM crashes on a damaged object.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import itertools
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import platformdirs

from gatewise.backends.cpu import openmp, tiers
from gatewise.backends.cpu.tiers import Tier

VARIABLE = "GATEWISE_CACHE"
LIMIT_BYTES = 256 << 20  # a kernel is 10 to 100 KB: thousands of them
_MAGIC = b"gwobj001"
_STALE_SECONDS = 3600.0  # a temporary file this old belongs to a process that died while writing

# All that a kernel may call: LLVM writes calls to the memory functions by itself. Anything else, above all libm, whose
# last bits differ between systems, is a fault of the emitter.
_CALLABLE = {*openmp.SYMBOLS, "memset", "memcpy", "memmove"}

_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # releases the interpreter lock during the call


@dataclass(frozen=True)
class Kernel:
    """Machine code in this process: the addresses of its entry points by name. It stays for the process's life."""

    addresses: dict[str, int]

    def address(self, name: str) -> int:
        """The address of an entry point."""
        if name not in self.addresses:
            raise ValueError(f"entry {name!r} is not in this kernel; expected one of {', '.join(self.addresses)}")
        return self.addresses[name]

    def function(self, name: str) -> Callable[[int], None]:
        """An entry point as a callable of one pointer, given as an integer address."""
        return _PROTOTYPE(self.address(name))


_kernels: dict[str, Kernel] = {}
_statistics: dict[str, Any] = {"compiled": 0, "loaded_from_disk": 0, "cache_problem": None}
_statistics |= {"seconds_compiling": 0.0, "seconds_loading": 0.0}
_names = itertools.count()
# One lock for all keys: llvmlite holds a lock of its own around every call into LLVM, so compilations of two keys
# would not overlap anyhow. Kernels already in memory are found without it.
_lock = threading.RLock()
# A fork waits for it: a lock held by another thread, ours or llvmlite's, would never be released in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def load(key: str, build: Callable[[], str], tier: Tier, entries: Sequence[str]) -> Kernel:
    """The kernel of this key: from memory, else from disk, else compiled from ``build()``, the text of its LLVM IR."""
    if not tiers.runs(tier.name):
        raise ValueError(f"tier {tier.name!r} cannot run here; available: {', '.join(tiers.available())}")
    digest = _digest(key, tier, tuple(entries))
    if digest in _kernels:
        return _kernels[digest]
    with _lock:
        if digest not in _kernels:
            _kernels[digest] = _from_disk(digest, entries) or _compiled(digest, build, tier, entries)
        return _kernels[digest]


def assemble(ir_text: str, tier: Tier) -> str:
    """The assembly text of LLVM IR for a tier, whether or not this host can run it."""
    with _lock:
        return str(tiers.target_machine(tier).emit_assembly(_optimised(ir_text, tier)))


def statistics() -> dict[str, Any]:
    """What this process compiled and loaded, the seconds it took, and why the disk cache was not written, if so."""
    seconds = _statistics["seconds_compiling"] + _statistics["seconds_loading"]
    return {**_statistics, "in_memory": len(_kernels), "seconds": seconds}


# --- the name of a kernel ---


@functools.lru_cache(maxsize=4096)
def _digest(key: str, tier: Tier, entries: tuple[str, ...]) -> str:
    parts = (key, tier, entries, llvm.llvm_version_info, llvmlite.__version__, _source_hash())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@functools.cache
def _source_hash() -> str:
    """A hash of the source that turns a cell into IR; empty where there is no source to read."""
    here = Path(__file__).resolve().parent
    found = hashlib.sha256()
    files = [path for folder in (here.parents[1] / "compiler", here) for path in sorted(folder.rglob("*.py"))]
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest() if files else ""


# --- compiling and linking ---


def _optimised(ir_text: str, tier: Tier) -> Any:
    """The module after LLVM's passes. The IR is written in vectors and unrolled already, so LLVM does neither."""
    machine = tiers.target_machine(tier)
    # A context of its own, freed with the module: the global one keeps types and constants for ever.
    try:
        module = llvm.parse_assembly(ir_text, context=llvm.create_context())
        module.triple = tier.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise RuntimeError(f"LLVM refused the IR of a kernel, which is a fault of Gatewise: {error}") from error
    # A GRU's backward: 103 ms and 11 KB of code; with LLVM's unrolling 120 ms, 13 KB; at level 3 too 196 ms, 17 KB.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return module


@functools.cache
def _engine() -> Any:
    """The linker of all kernels, with a library of the few functions that they may call."""
    # JITLink puts a kernel into one block with its own call stubs, so far addresses are no matter; 0.2 ms a kernel and
    # two memory maps, against 0.9 ms and three for MCJIT (3000 kernels). It is incomplete for COFF.
    engine = llvm.create_lljit_compiler(tiers.target_machine(tiers.detect()), use_jit_link=sys.platform != "win32")
    library = llvm.JITLibraryBuilder()
    openmp.provide(library)
    # Machine code is never unloaded: disposal at exit would run in the order in which Python clears modules.
    library.link(engine, "runtime").detach()
    atexit.register(engine.detach)
    return engine


def _link(digest: str, code: bytes, entries: Sequence[str]) -> Kernel:
    library = llvm.JITLibraryBuilder().add_object_img(code).add_jit_library("runtime").add_current_process()
    for name in entries:
        library.export_symbol(name)
    # The counter makes the name new even after a failed link of the same kernel.
    tracker = library.link(_engine(), f"{digest}.{next(_names)}")
    tracker.detach()
    return Kernel({name: int(tracker[name]) for name in entries})


def _undefined(code: bytes) -> set[str]:
    """The names that an ELF object takes from elsewhere; nothing is known of other formats."""
    sections = {item.name(): bytes(item.data()) for item in llvm.ObjectFileRef.from_data(code).sections()}
    names = sections.get(b".strtab", b"")
    symbols = struct.iter_unpack("<IBBHQQ", sections.get(b".symtab", b""))  # name, info, other, section, value, size
    return {names[at : names.index(b"\0", at)].decode() for at, _, _, section, _, _ in symbols if at and not section}


def _compiled(digest: str, build: Callable[[], str], tier: Tier, entries: Sequence[str]) -> Kernel:
    start = time.perf_counter()
    code = bytes(tiers.target_machine(tier).emit_object(_optimised(build(), tier)))
    foreign = _undefined(code) - _CALLABLE
    if foreign:
        raise RuntimeError(f"the kernel calls {sorted(foreign)}, expected no other than {sorted(_CALLABLE)}")
    kernel = _link(digest, code, entries)
    _statistics["compiled"] += 1
    _statistics["seconds_compiling"] += time.perf_counter() - start
    _store(digest, code)
    return kernel


def _from_disk(digest: str, entries: Sequence[str]) -> Kernel | None:
    start = time.perf_counter()
    code = _read(digest)
    if code is None:
        return None
    kernel = _link(digest, code, entries)
    _statistics["loaded_from_disk"] += 1
    _statistics["seconds_loading"] += time.perf_counter() - start
    return kernel


# --- the folder ---


def cache_folder() -> Path | None:
    """The folder of the disk cache: GATEWISE_CACHE, else the user's cache folder; None where there is to be none."""
    named = os.environ.get(VARIABLE)
    if named is not None and named.lower() in ("", "off"):
        return None
    if not _source_hash():
        _statistics["cache_problem"] = "the source of Gatewise cannot be read, so stale entries would not be known"
        return None
    try:
        return Path(named).expanduser() if named else platformdirs.user_cache_path("gatewise", appauthor=False)
    except RuntimeError as error:  # there is no home folder
        _statistics["cache_problem"] = f"no folder for the cache: {error}"
        return None


def _head(digest: str, code: bytes) -> bytes:
    """What stands before an object. The sum covers the name: a sound object under another's name is not taken."""
    return _MAGIC + hashlib.sha256(digest.encode() + code).digest()


def _read(digest: str) -> bytes | None:
    folder = cache_folder()
    if folder is None:
        return None
    try:
        data = (folder / (digest + ".o")).read_bytes()
    except OSError:
        return None
    code = data[len(_MAGIC) + 32 :]
    if data[: len(_MAGIC) + 32] != _head(digest, code):
        return None
    with contextlib.suppress(OSError):
        os.utime(folder / (digest + ".o"))  # the oldest by this time go first
    return code


def _store(digest: str, code: bytes) -> None:
    """Write an entry whole or not at all; a folder that refuses costs the next process a compilation, nothing else."""
    folder = cache_folder()
    if folder is None:
        return
    temporary = None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=digest[:16], suffix=".tmp", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(_head(digest, code) + code)
        os.replace(temporary, folder / (digest + ".o"))
        _prune(folder)
    except OSError as error:
        _statistics["cache_problem"] = f"{folder} could not be written: {error}"
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Our entries and temporary files as (time, bytes, path), oldest first; other processes may delete meanwhile."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as items:
        for item in items:
            name, suffix = os.path.splitext(item.name)
            if (suffix, len(name)) == (".o", 64) or (suffix == ".tmp" and len(name) >= 16):
                with contextlib.suppress(OSError):
                    status = item.stat()
                    found.append((status.st_mtime, status.st_size, Path(item.path)))
    return sorted(found)


def _prune(folder: Path) -> None:
    """Delete the oldest entries above the limit, down to 7/8 of it, so that not every store has to."""
    files = _files(folder)
    total = sum(size for _, size, _ in files)
    target = LIMIT_BYTES * 7 // 8 if total > LIMIT_BYTES else total
    now = time.time()
    for modified, size, path in files[:-1]:  # the newest is the one just written
        stale = path.suffix == ".tmp" and now - modified > _STALE_SECONDS
        if total > target or stale:
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def cache_size() -> int:
    """The bytes that the disk cache holds."""
    folder = cache_folder()
    return sum(size for _, size, _ in _files(folder)) if folder else 0


def clear_cache() -> int:
    """Delete every entry of the disk cache and say how many; kernels already in memory stay."""
    folder, deleted = cache_folder(), 0
    for _, _, path in _files(folder) if folder else []:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            deleted += 1
    return deleted
