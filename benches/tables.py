"""Tables in Markdown, and figures as they stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

LOST = "\n\n† In every sample other processes took a core: too long by an unknown part, and held against no goal."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned first column, the others to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def placed(text: str, tables: Mapping[str, str]) -> str:
    """A page with its tables as they are now: each stands between two comments with its name."""
    for name, made in tables.items():
        begin, end = (f"<!-- {name}: {word} -->\n" for word in ("begin", "end"))
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{made}\n{end}{rest.partition(end)[2]}"
    return text


def milliseconds(value: float) -> str:
    """Three digits."""
    digits = 4 if value < 0.1 else 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def size(bytes_: int) -> str:
    """In KB or MB."""
    return f"{bytes_ / 2**20:.1f} MB" if bytes_ >= 2**20 else f"{bytes_ / 2**10:.0f} KB"


def threads(count: int) -> str:
    """1 thread, 2 threads."""
    return "1 thread" if count == 1 else f"{count} threads"


def bold(text: str, when: bool) -> str:
    """What stands out."""
    return f"**{text}**" if when else text
