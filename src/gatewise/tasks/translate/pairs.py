"""Pairs of sentences: from tab-separated files, from two aligned files, plain or gzipped, or from Python."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.text.lines import read_lines


@dataclass(frozen=True)
class Pairs:
    """Aligned sentences. ``origin`` and ``lines``, from 1, say where they are from."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    origin: str
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: Sequence[int]) -> Pairs:
        """These pairs alone."""
        source, target = tuple(self.source[i] for i in indices), tuple(self.target[i] for i in indices)
        return Pairs(source, target, self.origin, tuple(self.lines[i] for i in indices))

    def same(self, other: Pairs) -> bool:
        """Whether the sentences are the same."""
        return (self.source, self.target) == (other.source, other.target)


def read_pairs(data: Any) -> Pairs:
    """Read pairs of sentences.

    Args:
        data: the path of a TSV file (source, tab, target), two paths of aligned files, or a list of pairs of texts; a
            name that ends in ``.gz`` is unpacked.

    Raises:
        InputError: for what is none of these, is not UTF-8, has an empty side, or sides of unequal numbers of lines.
    """
    if isinstance(data, Pairs):
        return data
    if isinstance(data, (str, Path)):
        return _from_table(Path(data))
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, (str, Path)) for part in data):
        return _from_two_files(Path(data[0]), Path(data[1]))
    if isinstance(data, list) and all(_is_pair(part) for part in data):
        return _checked([s for s, _ in data], [t for _, t in data], "data", "data", "pair")
    raise InputError(
        "data must be the path of a TSV file, a tuple of two paths or a list of (source, target) texts, got "
        f"{type(data).__name__}"
    )


def write_pairs(pairs: Pairs) -> bytes:
    """The pairs as a gzipped TSV file, the same bytes at any time."""
    rows = (f"{s}\t{t}\n" for s, t in zip(pairs.source, pairs.target, strict=True))
    return gzip.compress("".join(rows).encode(), mtime=0)


def _from_table(path: Path) -> Pairs:
    source, target = [], []
    for number, line in enumerate(read_lines(path), 1):
        parts = line.split("\t")
        if len(parts) != 2:
            raise InputError(f"{path}, line {number}: expected source, tab, target, got {len(parts) - 1} tabs")
        source.append(parts[0])
        target.append(parts[1])
    return _checked(source, target, str(path), str(path), "line")


def _from_two_files(source: Path, target: Path) -> Pairs:
    return _checked(read_lines(source), read_lines(target), str(source), str(target), "line")


def _checked(source: list[str], target: list[str], one: str, other: str, unit: str) -> Pairs:
    """The pairs, with white space as single spaces, once they are found complete."""
    if len(source) != len(target):
        short = min(len(source), len(target)) + 1
        raise InputError(
            f"{one} has {len(source)} lines and {other} has {len(target)}, expected as many: line {short} is alone"
        )
    if not source:
        raise InputError(f"{one} is empty, expected at least one pair of sentences")
    sides = []
    for name, side, texts in (("source", one, source), ("target", other, target)):
        plain = tuple(" ".join(text.split()) for text in texts)
        for number, text in enumerate(plain, 1):
            if not text:
                raise InputError(f"{side}, {unit} {number}: the {name} is empty")
        sides.append(plain)
    return Pairs(sides[0], sides[1], one, tuple(range(1, len(source) + 1)))


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(part, str) for part in value)
