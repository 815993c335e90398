"""Which recordings there are, what is said in them and by whom: from tables, folders, archives or Python."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.text.lines import read_lines
from gatewise.tasks.transcribe import sound
from gatewise.tasks.transcribe.sound import SUFFIXES, Clip

METADATA = "metadata.csv"
TEXT_COLUMNS = ("transcription", "text", "sentence", "transcript")
"""Of an audiofolder's table, the first that is there."""
LIBRISPEECH = "*.trans.txt"
TAR = ".tar"
TENTH, AT = 10, 5
"""Without validation data every tenth speaker, or recording, is held out, from number 5 on."""


@dataclass(frozen=True)
class Utterance:
    """A recording of its own with what is said in it; the speaker is None where nobody says who it is."""

    name: str
    clip: Clip
    text: str
    speaker: str | None = None


@dataclass(frozen=True)
class Recordings:
    """Utterances, and what was not taken: names and reasons."""

    utterances: list[Utterance]
    left_out: list[tuple[str, str]] = field(default_factory=list)


def recordings(data: Any, what: str = "data") -> Recordings:
    """What is to be read, with every sound file looked at.

    Args:
        data: a TSV file (path, tab, transcript; between them the speaker and columns that are not read), whose paths
            are relative to it, or names in a tar archive of the same name beside it; such an archive; a folder with
            ``metadata.csv`` (Hugging Face's audiofolder), in LibriSpeech's layout, or of sound files with a ``.txt``
            beside each; a list of pairs of a path and a transcript. what: to call it in sentences.

    Raises:
        InputError: for what is none of these, files that are missing or hold no sound, and empty transcripts.
    """
    if isinstance(data, Recordings):
        return data
    if isinstance(data, (list, tuple)):
        found = Recordings(list(_pairs(data, what)))
    elif isinstance(data, (str, Path)):
        found = _on_disk(Path(data), what)
    else:
        raise InputError(f"{what} must be a path or a list of pairs (path, transcript), got {type(data).__name__}")
    if not found.utterances:
        raise InputError(f"{what}: {data} holds no recordings with transcripts, expected at least one")
    for one in found.utterances:
        if not one.text:
            raise InputError(f"{what}: the transcript of {one.name} is empty")
        sound.check(one.clip)
    return found


def _on_disk(path: Path, what: str) -> Recordings:
    if path.suffix == TAR and path.is_file():
        return Recordings(list(_table(path.with_suffix(".tsv"), what)))
    if not path.is_dir():
        return Recordings(list(_table(path, what)))
    if (path / METADATA).is_file():
        return Recordings(list(_audiofolder(path, what)))
    lists = sorted(path.rglob(LIBRISPEECH))
    return Recordings([one for file in lists for one in _librispeech(file, what)]) if lists else _folder(path)


def _pairs(data: Sequence[Any], what: str) -> Iterator[Utterance]:
    for number, pair in enumerate(data, 1):
        whole = isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[1], str)
        if not whole or not isinstance(pair[0], (str, Path)):
            raise InputError(f"{what}: entry {number} must be a pair (path, transcript), got {pair!r:.80}")
        yield Utterance(str(pair[0]), Clip(Path(pair[0])), _plain(pair[1]))


def _table(path: Path, what: str) -> Iterator[Utterance]:
    archive = path.with_suffix(TAR)
    inside = {name: name for name in sound.members(archive)} if archive.is_file() else {}
    inside |= {name.rpartition("/")[2].rpartition(".")[0]: name for name in inside}
    for number, line in enumerate(read_lines(path), 1):
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) < 2 or not columns[0]:
            raise InputError(f"{what}: {path} line {number}: expected a path, a tab and a transcript, got {line!r:.80}")
        name, text, speaker = columns[0], _plain(columns[-1]), columns[1] if len(columns) > 2 else None
        if not text:
            raise InputError(f"{what}: {path} line {number}: the transcript is empty")
        if name in inside:
            yield Utterance(name, Clip(archive, inside[name]), text, speaker)
        else:
            yield Utterance(name, Clip(path.parent / name), text, speaker)


def _audiofolder(folder: Path, what: str) -> Iterator[Utterance]:
    path = folder / METADATA
    rows = csv.DictReader(io.StringIO("\n".join(read_lines(path)) + "\n"))
    names = rows.fieldnames or []
    column = next((name for name in TEXT_COLUMNS if name in names), None)
    if column is None or "file_name" not in names:
        expected = f"file_name and one of {', '.join(TEXT_COLUMNS)}"
        raise InputError(f"{what}: {path} has the columns {', '.join(names)}, expected {expected}")
    for number, row in enumerate(rows, 2):
        if not row["file_name"] or not _plain(row[column] or ""):
            raise InputError(f"{what}: {path} line {number}: expected a file name and a transcript that is not empty")
        speaker = row.get("speaker") or row.get("speaker_id") or None
        yield Utterance(row["file_name"], Clip(folder / row["file_name"]), _plain(row[column] or ""), speaker)


def _librispeech(path: Path, what: str) -> Iterator[Utterance]:
    """A chapter: lines of a name and its transcript; the name begins with the speaker's number."""
    for number, line in enumerate(read_lines(path), 1):
        name, _, text = line.partition(" ")
        if not name or not text.strip():
            raise InputError(f"{what}: {path} line {number}: expected a name, a space and a transcript")
        files = [path.parent / f"{name}{suffix}" for suffix in (".flac", *SUFFIXES)]
        file = next((file for file in files if file.is_file()), files[0])
        yield Utterance(name, Clip(file), _plain(text), name.partition("-")[0])


def _folder(folder: Path) -> Recordings:
    """Sound files with a text beside each; the folder that one lies in below the given one is its speaker."""
    found, left_out = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        inner, beside = path.relative_to(folder), path.with_suffix(".txt")
        if any(part.startswith(".") for part in inner.parts):
            continue
        if not beside.is_file():
            left_out.append((str(inner), f"there is no {beside.name} with its transcript beside it"))
            continue
        text = _plain(" ".join(read_lines(beside)))
        found.append(Utterance(str(inner), Clip(path), text, inner.parts[0] if len(inner.parts) > 1 else None))
    return Recordings(found, left_out)


def _plain(text: str) -> str:
    return " ".join(text.split())


def held_out(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Training and validation utterances: every tenth speaker is held out where there are ten or more and each
    recording has one, else every tenth recording, and always one.

    Raises:
        InputError: for a single recording.
    """
    if len(utterances) < 2:
        raise InputError("data: there is one recording, expected at least two, of which one is held out to validate on")
    speakers = sorted({one.speaker for one in utterances if one.speaker is not None})
    if len(speakers) >= TENTH and all(one.speaker is not None for one in utterances):
        chosen = set(speakers[AT::TENTH])
        return _parted(utterances, [one.speaker in chosen for one in utterances])
    places = set(range(AT, len(utterances), TENTH)) or {len(utterances) - 1}
    return _parted(utterances, [k in places for k in range(len(utterances))])


def _parted(utterances: Sequence[Utterance], held: Iterable[bool]) -> tuple[list[Utterance], list[Utterance]]:
    marked = list(zip(utterances, held, strict=True))
    return [one for one, out in marked if not out], [one for one, out in marked if out]
