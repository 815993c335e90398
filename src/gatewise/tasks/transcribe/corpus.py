"""The recordings of a model with their transcripts: read, turned into frames once, kept in the run's folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import read_json, remove, write_json
from gatewise.tasks.text.normalise import prepare
from gatewise.tasks.transcribe import store
from gatewise.tasks.transcribe.features import Statistics
from gatewise.tasks.transcribe.recordings import Utterance
from gatewise.tasks.transcribe.store import ABOUT, FILES, PARTIAL, PROGRESS, STORED, Item, Store
from gatewise.tasks.transcribe.units import Units

UTTERANCES = "utterances.json"
TRAINING, VALIDATION, TEST = "training", "validation", "test"
DATA_FILES = (UTTERANCES, *FILES)
"""All that ``save`` may write."""
LARGE = (STORED, PARTIAL, PROGRESS)
"""Of these the frames, whose SHA-256 stands beside them, and what a finished call leaves nothing of."""


@dataclass(frozen=True)
class Entry:
    """An utterance whose frames are in the store: ``items`` are their numbers there, the first at its own speed."""

    name: str
    text: str
    speaker: str | None
    items: tuple[int, ...]


class Corpus:
    """The parts of a model's recordings, their frames, and the units of their transcripts.

    Frames are computed when they are first asked for: into the folder that was last saved to, else into a temporary
    one.

    Args:
        parts: by name. units: of the transcripts. rate: samples a second. clips: of each item, where they were read;
            None for a corpus of a run. folder: of that run. left_out: names and reasons, see ``recordings``.
    """

    def __init__(
        self,
        parts: dict[str, list[Entry]],
        units: Units,
        rate: int,
        items: list[Item] | None = None,
        folder: Path | None = None,
        left_out: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.parts, self.units, self.rate, self.left_out = parts, units, rate, list(left_out)
        self.items, self.folder = items, folder
        self._store: Store | None = None
        self._statistics: Statistics | None = None

    @classmethod
    def of(
        cls,
        parts: dict[str, list[Utterance]],
        units: Units | Callable[[list[str]], Units],
        lowercase: bool,
        rate: int,
        speeds: Sequence[float] = (1.0,),
        left_out: Sequence[tuple[str, str]] = (),
    ) -> Corpus:
        """From utterances that were just read; those of the training part are heard at all ``speeds``, the first 1.

        Args:
            units: or what learns them from the transcripts of the training part. lowercase: whether all are made so.
        """
        items: list[Item] = []
        entries: dict[str, list[Entry]] = {}
        for part, utterances in parts.items():
            entries[part] = []
            texts = prepare([one.text for one in utterances], lowercase, normalise=False)
            for one, text in zip(utterances, texts, strict=True):
                heard = [Item(one.name, one.clip, speed) for speed in (speeds if part == TRAINING else speeds[:1])]
                numbers = tuple(range(len(items), len(items) + len(heard)))
                entries[part].append(Entry(one.name, text, one.speaker, numbers))
                items += heard
        known = units if isinstance(units, Units) else units([one.text for one in entries[TRAINING]])
        return cls(entries, known, rate, items, left_out=left_out)

    @classmethod
    def load(cls, folder: Path, rate: int) -> Corpus:
        """What ``save`` wrote; the frames may be missing until they are asked for.

        Raises:
            InputError: for a damaged file.
        """
        path = folder / UTTERANCES
        saved = read_json(path)
        try:
            parts = {str(part): [_entry(value) for value in entries] for part, entries in saved["parts"].items()}
            if not {TRAINING, VALIDATION} <= parts.keys() or not all(parts.values()):
                raise ValueError("parts without utterances")
            left_out = [(str(name), str(why)) for name, why in saved["left_out"]]
            found = cls(parts, Units.from_json(saved["units"]), rate, folder=folder, left_out=left_out)
            found._statistics = Statistics.from_json(saved["statistics"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is damaged: expected the utterances of a transcriber") from None
        return found

    def save(self, folder: Path) -> None:
        """Write utterances and frames, what is not yet computed too. A process killed meanwhile is gone on from.

        Raises:
            InputError: for sound that cannot be read. WriteError: when the folder cannot be written.
        """
        try:
            if self._store is not None:
                store.copied(self._store, folder)
            elif self.items is not None:
                self._store = store.stored(self.items, self.rate, folder)
            elif self.folder is not None and (self.folder / STORED).exists():
                store.copied(store.opened(self.folder), folder)
        except BaseException:
            for file in (PARTIAL, PROGRESS):
                remove(folder / file)
            raise
        saved = {"units": self.units.to_json(), "left_out": self.left_out, "statistics": self.statistics.to_json()}
        write_json(folder / UTTERANCES, {**saved, "parts": {p: list(map(asdict, e)) for p, e in self.parts.items()}})

    def same(self, other: Corpus) -> bool:
        """Whether another one that was just read has the same recordings and transcripts."""
        if self.parts != other.parts or self.units.to_json() != other.units.to_json():
            return False
        about = read_json(self.store.path.parent / ABOUT)
        if other.items is not None and store.mark_of(other.items, other.rate) == about.get("mark"):
            return True
        return bool(read_json(other.store.path.parent / ABOUT).get("sha256") == about.get("sha256"))

    @property
    def store(self) -> Store:
        """The frames of all items.

        Raises:
            InputError: for sound that cannot be read, or a file that is missing or damaged.
        """
        if self._store is None:
            if self.items is not None:
                self._store = store.stored(self.items, self.rate)
            else:
                assert self.folder is not None
                self._store = store.opened(self.folder)
                if max(item for part in self.parts.values() for one in part for item in one.items) >= len(
                    self._store.counts
                ):
                    raise InputError(f"{self.folder / UTTERANCES} is damaged: {ABOUT} has fewer recordings than it")
        return self._store

    @property
    def statistics(self) -> Statistics:
        """Of the training part at its own speed."""
        if self._statistics is None:
            self._statistics = Statistics.of(self.store[one.items[0]] for one in self.parts[TRAINING])
        return self._statistics

    def speakers(self, entries: Sequence[Entry]) -> dict[str, Statistics]:
        """Of each speaker, by all that is there of one at its own speed; who has no name is one by each recording."""
        spoken: dict[str, list[int]] = defaultdict(list)
        for one in entries:
            spoken[self.key(one)].append(one.items[0])
        return {name: Statistics.of(self.store[item] for item in items) for name, items in spoken.items()}

    @staticmethod
    def key(one: Entry) -> str:
        return f"recording {one.name}" if one.speaker is None else f"speaker {one.speaker}"


def _entry(value: Any) -> Entry:
    """What was written of an utterance; raises KeyError, TypeError or ValueError for anything else."""
    found = Entry(value["name"], value["text"], value["speaker"], tuple(value["items"]))
    texts = [found.name, found.text, found.speaker or ""]
    if not all(isinstance(text, str) for text in texts) or not found.text or not found.items:
        raise ValueError("not an utterance")
    if not all(type(item) is int and item >= 0 for item in found.items):
        raise ValueError("not numbers of recordings")
    return found
