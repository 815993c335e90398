"""A language of tones: each letter is a sine of its own pitch, a space is silence, a word is two or three letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import gatewise as gw

RATE = 16000
PITCH = {"A": 400.0, "B": 900.0, "C": 1700.0, "D": 3000.0}
WORDS = ("AB", "CAD", "CBB", "DA")
SECONDS = 0.16
"""Of a letter: four steps of a network."""
SMALL: dict[str, Any] = {"hidden_size": 32, "dropout": 0.0, "batch_seconds": 12.0, "average": 0.0}
SMALL |= {"num_layers": 1, "learning_rate": 2e-2, "speeds": "1", "frequency_masks": 0, "time_masks": 0}


def spoken(text: str, seed: int = 0, rate: int = RATE) -> NDArray[np.float32]:
    """A text as sound: (samples,), with a little noise and lengths that vary."""
    generator = np.random.default_rng([seed, *map(ord, text)])
    parts = [np.zeros(round(0.05 * rate))]
    for letter in text:
        count = round(SECONDS * generator.uniform(0.8, 1.2) * rate)
        tone = np.sin(2 * np.pi * PITCH.get(letter, 0.0) * np.arange(count) / rate)
        parts += [0.3 * tone * np.hanning(count) ** 0.3, np.zeros(round(0.04 * rate))]
    whole = np.concatenate(parts)
    return (whole + 1e-3 * generator.normal(size=len(whole))).astype(np.float32)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Texts of one to three words."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, size=generator.integers(1, 4))) for _ in range(count)]


def written(
    folder: Path, texts: Sequence[str], name: str = "train.tsv", speakers: int = 0, suffix: str = ".wav"
) -> Path:
    """A TSV with sound files beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, text in enumerate(texts):
        file = f"{Path(name).stem}-{number}{suffix}"
        soundfile.write(folder / file, spoken(text, number), RATE)
        rows.append("\t".join([file, *([f"s{number % speakers}"] if speakers else []), text]))
    path = folder / name
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TSV of 120 recordings."""
    return written(tmp_path_factory.mktemp("tones"), sentences(120))


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TSV of 30 other recordings, enough to tell one epoch from another."""
    return written(tmp_path_factory.mktemp("held"), sentences(30, seed=7), "val.tsv")


@pytest.fixture(scope="session")
def both(tones: Path, held: Path) -> gw.Transcriber:
    """A model that reads in both directions, which has learned the language."""
    return gw.Transcriber(**SMALL, max_steps=150).fit(tones, validation=held)


@pytest.fixture(scope="session")
def forward(tones: Path, held: Path) -> gw.Transcriber:
    """One that can write while it listens."""
    options = {**SMALL, "direction": "forward", "lookahead": 3, "num_layers": 2}
    return gw.Transcriber(**options, max_steps=150).fit(tones, validation=held)
