"""The picture of a transcription: sound, spectrogram, letters and gates over the same seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gatewise.tasks.errors import need
from gatewise.tasks.figures import save
from gatewise.tasks.transcribe.features import SHIFT
from gatewise.tasks.transcribe.looking import Looking

SHOWN = 0.1
"""Probability that a letter must reach at some step to be drawn."""
MOST_LETTERS = 30
MOST_POINTS = 4000
"""Of the sound that are drawn: what lies between is its loudest and quietest."""


def draw(found: Looking, path: Path) -> None:
    """Draw into a picture file, whose suffix says the format.

    Raises:
        InputError: without matplotlib.
    """
    need("matplotlib")
    from matplotlib.figure import Figure

    letters = _letters(found)
    heights = [0.9, 1.8, 0.16 * len(letters) + 0.5, *[1.2] * len(found.kept)]
    end = len(found.samples) / found.rate
    figure = Figure(figsize=(float(np.clip(2.5 * end, 7, 20)), sum(heights) + 1.6), dpi=130, layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _sound(axes[0], found)
    image = axes[1].imshow(
        found.frames.T, aspect="auto", origin="lower", cmap="magma", extent=(0, len(found.frames) * SHIFT, 0, 80)
    )
    axes[1].set_ylabel("mel band", fontsize=8)
    figure.colorbar(image, ax=axes[1], label="log energy", pad=0.01)
    steps = len(found.probabilities) * found.seconds
    image = axes[2].imshow(
        found.probabilities[:, letters].T,
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0, steps, len(letters) - 0.5, -0.5),
    )
    axes[2].set_yticks(range(len(letters)), [found.looks[k] for k in letters], fontsize=7)
    figure.colorbar(image, ax=axes[2], label="probability", pad=0.01)
    for axis, values, way in zip(axes[3:], found.kept, ("→", "←"), strict=False):
        ordered = values[:, values.mean(0).argsort()]
        image = axis.imshow(
            ordered.T, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest",
            extent=(0, steps, values.shape[1], 0),
        )  # fmt: skip
        axis.set_ylabel(f"unit {way}", fontsize=8)
        figure.colorbar(image, ax=axis, label=f"{found.gate}: kept", pad=0.01)
    for word in found.transcript.words:
        for axis in axes[1:]:
            axis.axvline(word.start, color="white" if axis is not axes[2] else "grey", linewidth=0.6, alpha=0.8)
        axes[0].text(word.start, 1.05, word.word, fontsize=8, transform=axes[0].get_xaxis_transform())
    axes[-1].set_xlabel("seconds; lines where the network writes the first letter of a word", fontsize=8)
    axes[-1].set_xlim(0, end)
    figure.suptitle(found.transcript.text or "(nothing was understood)", fontsize=11)
    save(figure, path)


def _letters(found: Looking) -> list[int]:
    """The tokens that are likely anywhere, the blank first, then in the order in which they come."""
    likely = found.probabilities
    chosen = [k for k in np.argsort(likely.argmax(0), kind="stable").tolist() if k and likely[:, k].max() >= SHOWN]
    return [0, *chosen[:MOST_LETTERS]]


def _sound(axis: Any, found: Looking) -> None:
    """The loudest and quietest sample of each stretch."""
    size = max(1, len(found.samples) // MOST_POINTS)
    whole = found.samples[: len(found.samples) // size * size].reshape(-1, size)
    seconds = np.arange(len(whole)) * size / found.rate
    axis.fill_between(seconds, whole.min(1), whole.max(1), linewidth=0.5, color="#335577")
    axis.set_ylabel("sound", fontsize=8)
