"""LLVM IR to machine code in this process, kept on disk between processes.

A kernel is asked for by a key. Its object lies in the cache of ``backends/cache.py`` under the SHA-256 of everything
that decides its bytes: another key, tier, LLVM or source of Gatewise is another name.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import hashlib
import itertools
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from gatewise.backends import cache
from gatewise.backends.cpu import openmp, tiers
from gatewise.backends.cpu.tiers import Tier

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
_statistics = {"compiled": 0, "loaded_from_disk": 0, "seconds_compiling": 0.0, "seconds_loading": 0.0}
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
    """What this process compiled and loaded, the seconds it took, and what was wrong with the cache, if anything."""
    seconds = _statistics["seconds_compiling"] + _statistics["seconds_loading"]
    return {**_statistics, "in_memory": len(_kernels), "seconds": seconds, "cache_problem": cache.problem()}


# --- the name of a kernel ---


@functools.lru_cache(maxsize=4096)
def _digest(key: str, tier: Tier, entries: tuple[str, ...]) -> str:
    parts = (key, tier, entries, llvm.llvm_version_info, llvmlite.__version__, cache.source_hash())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


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


@contextmanager
def _no_collections() -> Iterator[None]:
    """No garbage is collected meanwhile: tens of thousands of new objects would set off collections that go through all
    of torch's objects, which was half of the 60 ms in which the text of a kernel is made (48 kernels). The threshold is
    raised, and collection not turned off, since others turn it off and on too."""
    before = gc.get_threshold()
    try:
        gc.set_threshold(0)
        yield
    finally:
        gc.set_threshold(*before)


def _compiled(digest: str, build: Callable[[], str], tier: Tier, entries: Sequence[str]) -> Kernel:
    start = time.perf_counter()
    with _no_collections():
        text = build()
    code = bytes(tiers.target_machine(tier).emit_object(_optimised(text, tier)))
    foreign = _undefined(code) - _CALLABLE
    if foreign:
        raise RuntimeError(f"the kernel calls {sorted(foreign)}, expected no other than {sorted(_CALLABLE)}")
    kernel = _link(digest, code, entries)
    _statistics["compiled"] += 1
    _statistics["seconds_compiling"] += time.perf_counter() - start
    cache.store(digest + ".o", code)
    return kernel


def _from_disk(digest: str, entries: Sequence[str]) -> Kernel | None:
    start = time.perf_counter()
    code = cache.read(digest + ".o")
    if code is None:
        return None
    kernel = _link(digest, code, entries)
    _statistics["loaded_from_disk"] += 1
    _statistics["seconds_loading"] += time.perf_counter() - start
    return kernel
