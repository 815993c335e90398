"""Memory between pages that nobody may touch: whoever reads or writes beside a tensor ends the process.

A tensor lies at the beginning or at the end of whole pages, with a forbidden page on either side, filled with NaN.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

_system = ctypes.CDLL(None, use_errno=True)
_system.mmap.restype = ctypes.c_void_p
_system.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_system.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_system.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_PAGE = mmap.PAGESIZE
_MOST = 256 << 20


def empty(shape: Sequence[int], dtype: torch.dtype, *, at_end: bool = True) -> Tensor:
    """Memory of this shape, filled with ones in every bit; ``at_end``: the forbidden page follows at once."""
    tensor = torch.empty(0, dtype=dtype)
    count = 1
    for n in shape:
        count *= n
    size = count * tensor.element_size()
    if size == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    if size > _MOST:
        raise RuntimeError(f"{size} bytes are more than a test may fill")
    inner = -(-size // _PAGE) * _PAGE
    total = inner + 2 * _PAGE
    start = _system.mmap(None, total, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if start is None or start == ctypes.c_void_p(-1).value:
        raise MemoryError(f"mmap refused {total} bytes")
    for forbidden in (start, start + _PAGE + inner):
        if _system.mprotect(forbidden, _PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect refused")
    ctypes.memset(start + _PAGE, 0xFF, inner)
    buffer = (ctypes.c_char * size).from_address(start + _PAGE + (inner - size if at_end else 0))
    made = torch.frombuffer(buffer, dtype=dtype).view(tuple(shape))
    weakref.finalize(buffer, _system.munmap, start, total)
    return made


def like(tensor: Tensor, *, at_end: bool = True) -> Tensor:
    """The same numbers in guarded memory."""
    return empty(tensor.shape, tensor.dtype, at_end=at_end).copy_(tensor)
