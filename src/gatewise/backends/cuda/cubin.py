"""What a kernel's machine code needs of a multiprocessor, read from the cubin itself (an ELF file)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SECTION = struct.Struct("<IIQQQQIIQQ")
_REGISTERS, _FRAME = 0x2F, 0x11
"""Attributes of ``.nv.info``: for each function the registers of a thread, and the bytes of its stack."""
_SIZED = 4
"""The format of attributes that say how long they are; the others have two bytes."""


@dataclass(frozen=True)
class Resources:
    """Of a kernel."""

    registers: int
    """Of a thread."""
    stack: int
    """Bytes of a thread in local memory: what was spilled, and arrays that the compiler could not keep in registers."""
    shared: int
    """Bytes of shared memory that every block has beside what a launch asks for."""
    code: int
    """Bytes of instructions."""


def resources(cubin: bytes) -> Resources:
    """Of the one kernel in a cubin.

    Raises:
        ValueError: for what is no cubin.
    """
    if cubin[:4] != b"\x7fELF":
        raise ValueError(f"a cubin must be an ELF file, got bytes that begin with {cubin[:4]!r}")
    registers = stack = shared = code = 0
    for name, content, size in _sections(cubin):
        if name == ".nv.info":
            for attribute, value in _attributes(content):
                if attribute in (_REGISTERS, _FRAME):
                    _, amount = struct.unpack("<II", value)
                    registers = max(registers, amount) if attribute == _REGISTERS else registers
                    stack = max(stack, amount) if attribute == _FRAME else stack
        elif name.startswith(".nv.shared.") and not name.startswith(".nv.shared.reserved"):
            shared = max(shared, size)
        elif name.startswith(".text."):
            code = max(code, size)
    return Resources(registers, stack, shared, code)


def _sections(cubin: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Name, content and size; a section that is only room has no content."""
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    count, names = struct.unpack_from("<HH", cubin, 0x3C)
    headers = [_SECTION.unpack_from(cubin, start + k * _SECTION.size) for k in range(count)]
    table = headers[names][4]
    for header in headers:
        first = table + header[0]
        offset, size = header[4], header[5]
        yield cubin[first : cubin.index(b"\0", first)].decode(), cubin[offset : offset + size], size


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(content):
        kind, attribute, size = struct.unpack_from("<BBH", content, at)
        at += 4
        length = size if kind == _SIZED else 0
        yield attribute, content[at : at + length]
        at += length
