"""The OpenMP runtime that torch has loaded, for kernels: one pool of threads in the process, shared with torch.

Kernels call four functions, ``gatewise_parallel(fn, data, threads, flags)``, ``gatewise_barrier()``,
``gatewise_thread_num()`` and ``gatewise_num_threads()``. Where torch brings no GNU-style OpenMP (musl, macOS, Windows)
they are serial: the region is a call, a team is one thread. A region may get fewer threads than it asked for
(OMP_THREAD_LIMIT, OMP_DYNAMIC), so ranges count ``gatewise_num_threads()`` inside the region.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

import llvmlite.binding as llvm
import torch

# Kernel's name -> the name in libgomp; LLVM's and Intel's libomp export the same four.
SYMBOLS = {
    "gatewise_parallel": "GOMP_parallel",
    "gatewise_barrier": "GOMP_barrier",
    "gatewise_thread_num": "omp_get_thread_num",
    "gatewise_num_threads": "omp_get_num_threads",
}

#: The four functions in LLVM IR, for kernels to declare.
DECLARATIONS = """\
declare void @gatewise_parallel(ptr, ptr, i32, i32)
declare void @gatewise_barrier()
declare i32 @gatewise_thread_num()
declare i32 @gatewise_num_threads()
"""

#: The same four where there is no OpenMP.
SERIAL = """\
define void @gatewise_parallel(ptr %fn, ptr %data, i32 %threads, i32 %flags) {
  call void %fn(ptr %data)
  ret void
}
define void @gatewise_barrier() {
  ret void
}
define i32 @gatewise_thread_num() {
  ret i32 0
}
define i32 @gatewise_num_threads() {
  ret i32 1
}
"""

_LIBRARIES = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}

# The pool's threads do not survive a fork, but libgomp in the child still counts on them: a region there waits forever.
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _find() -> tuple[dict[str, int], str]:
    """The addresses by kernel's name, or none, and a sentence on what was found."""
    name = _LIBRARIES.get(sys.platform)
    if name is None:
        return {}, f"one thread: the OpenMP of torch has no GOMP_parallel on {sys.platform}"
    path = Path(torch.__file__).parent / "lib" / name
    try:
        # Already loaded by torch, so this is a handle, not a second copy; dlsym walks its dependencies.
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return {}, f"one thread: torch's library {path} could not be opened ({error})"
    addresses: dict[str, int] = {}
    for ours, theirs in SYMBOLS.items():
        try:
            addresses[ours] = ctypes.cast(getattr(library, theirs), ctypes.c_void_p).value or 0
        except AttributeError:
            return {}, f"one thread: {theirs} is missing from the libraries that torch loaded"
    return addresses, f"OpenMP of torch, {mapped_file(addresses['gatewise_parallel']) or name}"


def mapped_file(address: int) -> str:
    """The file from which the code at an address was loaded, by /proc/self/maps; empty where that does not say."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in fields[0].split("-"))
        if low <= address < high:
            return fields[5] if len(fields) == 6 else ""
    return ""


def available() -> bool:
    """Whether kernels of this process can run on several threads."""
    return bool(_find()[0]) and not _forked


def reason() -> str:
    """One sentence: which OpenMP the kernels use, or why they run on one thread."""
    if _forked:
        return "one thread: this process is a forked child, where OpenMP's threads are gone"
    return _find()[1]


def threads() -> int:
    """How many threads a kernel asks for: torch.get_num_threads(), or 1 where a region cannot run."""
    return int(torch.get_num_threads()) if available() else 1


def symbols() -> dict[str, int]:
    """The addresses of the four functions by their gatewise_ name; empty where the serial ones stand in."""
    return dict(_find()[0])


def provide(library: llvm.JITLibraryBuilder) -> None:
    """Put the four functions into a library that kernels link with."""
    addresses = symbols()
    if not addresses:
        library.add_ir(SERIAL)
    for name, address in addresses.items():
        library.import_symbol(name, address)
