"""CUDA C++ to machine code with NVRTC, by ctypes: no nvcc, no headers, no package that is tied to a version of CUDA.

torch's CUDA wheels bring NVRTC, the extra ``cuda`` does where torch was installed otherwise. It runs without a card and
without a driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_LIBRARIES = ("libnvrtc.so.*", "nvrtc64_*.dll")
_SYSTEM = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")
_OPTIONS = ("--std=c++17", "-default-device", "--ptxas-options=-v")


class CompilationError(RuntimeError):
    """NVRTC refused a source; the text is its log."""


def _candidates() -> Iterator[Path]:
    """The libraries in the packages that may bring one, those that were imported before others first."""
    for root in dict.fromkeys(sys.path):
        for folder in sorted(Path(root or ".").glob("nvidia/*"), reverse=True):
            for pattern in _LIBRARIES:
                found = [*folder.glob(f"lib/{pattern}"), *folder.glob(f"bin/**/{pattern}")]
                yield from (path for path in found if "builtins" not in path.name and ".alt" not in path.name)


@functools.cache
def library() -> ctypes.CDLL | None:
    """NVRTC; None where there is none."""
    for path in _candidates():
        with contextlib.suppress(OSError):
            # NVRTC asks for its second library by a bare name, which is found where it is loaded already.
            for second in path.parent.glob("*nvrtc-builtins*"):
                ctypes.CDLL(str(second))
            return ctypes.CDLL(str(path))
    for name in _SYSTEM if os.name == "posix" else ():
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


def version() -> tuple[int, int]:
    """Of NVRTC, which is that of the CUDA it belongs to."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _nvrtc() -> ctypes.CDLL:
    found = library()
    if found is None:
        raise RuntimeError("NVRTC must be installed to compile kernels for a GPU (pip install 'gatewise[cuda]')")
    return found


def compiled(source: str, headers: Mapping[str, str], architecture: str) -> tuple[bytes, str]:
    """The cubin of a translation unit, and what the assembler says of its kernels.

    Args:
        headers: the files that it may include, by name. architecture: as ``sm_90a``.

    Raises:
        CompilationError: with the compiler's log.
        RuntimeError: where there is no NVRTC.
    """
    nvrtc, program = _nvrtc(), ctypes.c_void_p()
    names = (ctypes.c_char_p * len(headers))(*[name.encode() for name in headers])
    texts = (ctypes.c_char_p * len(headers))(*[text.encode() for text in headers.values()])
    _check(nvrtc, nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", len(headers), texts, names
    ))  # fmt: skip
    try:
        options = [option.encode() for option in (f"--gpu-architecture={architecture}", *_OPTIONS)]
        status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = _bytes(nvrtc, "ProgramLog", program).rstrip(b"\0").decode(errors="replace")
        if status:
            raise CompilationError(log or _reason(nvrtc, status))
        return _bytes(nvrtc, "CUBIN", program), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _bytes(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(nvrtc: ctypes.CDLL, status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC failed: {_reason(nvrtc, status)}")


def _reason(nvrtc: ctypes.CDLL, status: int) -> str:
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    return bytes(nvrtc.nvrtcGetErrorString(status)).decode()
