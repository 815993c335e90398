"""The host's own compiler, for tests of source that Gatewise writes."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pytest

from gatewise.backends.cuda import nvrtc


@lru_cache
def compiler(names: tuple[str, ...]) -> str:
    """The first of these compilers that is here; empty where none is."""
    return next((found for name in names if (found := shutil.which(name))), "")


C = compiler(("gcc", "clang", "cc"))
CPP = compiler(("g++", "clang++"))
needs_c = pytest.mark.skipif(not C, reason="there is no C compiler here")
needs_cpp = pytest.mark.skipif(not CPP, reason="there is no C++ compiler here")
needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed")


def library(source: Path, command: str, flags: Sequence[str]) -> ctypes.CDLL:
    """A source file as a library in this process."""
    built = source.with_suffix(".so")
    done = subprocess.run(
        [command, *flags, "-shared", "-fPIC", "-o", str(built), str(source), "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(built))
