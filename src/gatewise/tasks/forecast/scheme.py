"""What training saw of covariates: means and spreads of numbers, vocabularies of words; saved beside the weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps
from gatewise.tasks.forecast.columns import ROLES, Reading
from gatewise.tasks.forecast.covariates import Covariate
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.values import Values

FAR = 20.0
"""Where numbers are cut, in spreads from their mean."""
UNKNOWN, FIRST = 1.0, 2.0
"""Codes of a word that training did not see, and of the first one that it saw; 0 stands for a missing one."""


@dataclass(frozen=True)
class Feature:
    """A covariate: its name and role; the words of its training part, None for numbers, and then their mean and
    spread; whether some of its training values were missing."""

    name: str
    role: str
    words: tuple[str, ...] | None = None
    mean: float = 0.0
    spread: float = 1.0
    gaps: bool = False

    def codes(self, column: Covariate) -> NDArray[np.float32]:
        """What stands for each word of a column of a table."""
        index = {word: i + FIRST for i, word in enumerate(self.words or ())}
        return np.array([index.get(word, UNKNOWN) for word in column.words or ()], np.float32)

    def unknown(self, column: Covariate) -> list[str]:
        """The words of a column that training did not see."""
        return [] if self.words is None else [word for word in column.words or () if word not in set(self.words)]

    def encoded(self, values: Values, column: Covariate) -> NDArray[np.float32]:
        """Numbers in spreads from the mean, NaN where missing, or codes of words."""
        missing = np.isnan(values)
        if self.words is None:
            return np.asarray(((values - self.mean) / self.spread).clip(-FAR, FAR), np.float32)
        codes = np.append(self.codes(column), np.float32(0))
        return np.asarray(codes[np.where(missing, len(codes) - 1, values).astype(np.intp)])


@dataclass(frozen=True)
class Scheme:
    """All covariates of a model, in the order in which its network reads them; ``calendar``: cycles of time."""

    features: tuple[Feature, ...] = ()
    calendar: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.features or self.calendar)

    def of(self, *roles: str, words: bool) -> list[Feature]:
        """Those of roles that are words, or numbers."""
        return [f for role in roles for f in self.features if f.role == role and (f.words is not None) == words]

    @property
    def ahead(self) -> list[Feature]:
        """Those that must be known for the horizon."""
        return [f for f in self.features if f.role == "future"]

    def reading(self, reading: Reading) -> Reading:
        """How other data of the model are read: what is a covariate, and what it is, is settled."""
        roles = {f.name: f.role for f in self.features}
        words = tuple(f.name for f in self.features if f.words is not None)
        return replace(reading, covariates=roles, words=words, infer=False, settled=True)

    def unknown(self, columns: Sequence[Covariate]) -> list[str]:
        """A sentence for each column with words that training did not see."""
        found = []
        for feature in self.features:
            column = next((c for c in columns if c.name == feature.name), None)
            words = feature.unknown(column) if column else []
            if words:
                count = f"{len(words)} words" if len(words) > 1 else "a word"
                found.append(
                    f"data: the column {feature.name} has {count} that training did not see, such as {words[0]!r}"
                )
        return found

    # As a file

    def to_json(self) -> bytes:
        return dumps({"covariates": [asdict(feature) for feature in self.features]}).encode()

    @classmethod
    def read(cls, path: Path) -> Scheme:
        """What ``to_json`` wrote.

        Raises:
            InputError: for a damaged file.
        """
        try:
            found = [_feature(one) for one in json.loads(path.read_text())["covariates"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged: expected the covariates of a forecaster") from None
        return cls(tuple(found))


def _feature(entry: dict[str, Any]) -> Feature:
    words = entry["words"]
    feature = Feature(**{**entry, "words": None if words is None else tuple(map(str, words))})
    if feature.role not in ROLES or not isinstance(feature.name, str) or not feature.spread > 0:
        raise ValueError(entry)
    float(feature.mean)
    return feature


def learnt(series: Sequence[Series], ends: Sequence[int]) -> Scheme:
    """What the training parts of series show of their covariates.

    Args:
        ends: of the training parts.
    """
    found = [_learnt(series, ends, k) for k in range(len(series[0].columns))]
    return Scheme(tuple(found))


def _learnt(series: Sequence[Series], ends: Sequence[int], k: int) -> Feature:
    column = series[0].columns[k]
    seen = [one.extras[:end, k] for one, end in zip(series, ends, strict=True) if one.extras is not None]
    if column.role == "static":
        seen = [first_known(values) for values in seen]
        gaps = any(np.isnan(values).any() for values in seen)
    else:
        gaps = any(
            bool((np.isnan(values) & ~np.isnan(one.values[:end])).any())
            for values, one, end in zip(seen, series, ends, strict=True)
        )
    values = np.concatenate(seen)
    values = values[~np.isnan(values)]
    if column.words is not None:
        words = tuple(column.words[int(code)] for code in np.unique(values))
        return Feature(column.name, column.role, words, gaps=gaps)
    mean = float(values.mean()) if len(values) else 0.0
    spread = float(values.std()) if len(values) else 0.0
    return Feature(column.name, column.role, None, mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 1.0, gaps)


def first_known(values: Values) -> Values:
    """The first value that is not missing (1,); NaN where all are."""
    known = values[~np.isnan(values)][:1]
    return known if len(known) else np.array([np.nan])
