"""The outcome of a training, read from ``metrics.json``, and entries of a run's JSON files: all of it checked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import WEIGHTS, check_sha256, read_json
from gatewise.tasks.training import Epoch, History

Scores = dict[str, dict[str, float]]
"""Name of a model or baseline → name of a metric → value."""


def read_metrics(path: Path, higher_is_better: bool) -> tuple[History, Scores]:
    """The history of a finished training and its scores; the weights beside it must be those that were scored.

    Raises:
        InputError: for an entry that is missing or damaged, or other weights.
    """
    metrics = read_json(path)
    for name, kind in (("history", list), ("scores", dict)):
        if not entry(metrics, name, kind, path):
            raise InputError(f"{path} is damaged: its entry {name!r} is empty, expected at least one")
    digests = entry({"sha256": {}, **metrics}, "sha256", dict, path)
    check_sha256(path.with_name(WEIGHTS), digests.get(WEIGHTS))
    try:
        epochs = [Epoch(**epoch) for epoch in metrics["history"]]
        history = History(epochs, True, higher_is_better, metrics.get("kept_epoch") == len(epochs))
        if not all(isinstance(v, (int, float)) for e in history.epochs for v in vars(e).values()):
            raise TypeError
        scores = {
            name: {metric: math.nan if value is None else float(value) for metric, value in figures.items()}
            for name, figures in metrics["scores"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path} is damaged: expected epochs of numbers in 'history' and figures by name in 'scores'"
        ) from None
    return history, scores


def verdict(scores: Scores, metric: str, higher_is_better: bool) -> str:
    """A sentence where a naive baseline is better than the model, which comes first in ``scores``; else empty."""
    figures = {name: values[metric] for name, values in scores.items() if not math.isnan(values.get(metric, math.nan))}
    model, *baselines = scores
    known = [name for name in baselines if name in figures]
    if model not in figures or not known:
        return ""
    best = (max if higher_is_better else min)(known, key=lambda name: figures[name])
    worse = figures[model] < figures[best] if higher_is_better else figures[model] > figures[best]
    if not worse:
        return ""
    return (
        f"The model is worse than the naive baseline {best!r}: its {metric} is {figures[model]:.3f}, the baseline's "
        f"{figures[best]:.3f}; train longer, change the options, or use the baseline."
    )


def entry(values: dict[str, Any], name: str, kind: type, path: Path) -> Any:
    """An entry of a JSON file, which must be of a kind.

    Raises:
        InputError: when it is missing or of another.
    """
    if name not in values:
        raise InputError(f"{path} is damaged: its entry {name!r} is missing")
    if not isinstance(values[name], kind):
        raise InputError(f"{path} is damaged: its entry {name!r} must be of {kind.__name__}, got {values[name]!r}")
    return values[name]
