"""A small fitted model of every task, whose weights are then random and all different: parts that training leaves near
zero count too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from asymmetric import asymmetric

import gatewise as gw
from gatewise.tasks.base import Task
from gatewise.tasks.exercises import Adding, Copy

TEXT = "the cat sat on the mat. a man sat. " * 40
PAIRS = [
    (f"the {a} {b}", f"le {b} {a}") for a in ("red", "old", "big", "new") for b in ("cat", "man", "mat", "hat", "dog")
]
SMALL = {"hidden_size": 8, "max_steps": 2}


def table(folder: Path, series: int = 1) -> Path:
    """Monthly values with gaps."""
    lines, generator = ["unique_id,ds,y"], np.random.default_rng(0)
    for k in range(series):
        months = np.datetime64("2010-01") + np.arange(60 + 7 * k)
        values = 50 + 0.1 * np.arange(len(months)) + 4 * np.sin(np.arange(len(months)) / 12 * 2 * np.pi)
        values += generator.normal(size=len(values))
        known = generator.random(len(values)) > 0.05
        known[[0, -1]] = True
        lines += [
            f"s{k},{m}-01,{v:.2f}" if ok else f"s{k},{m}-01," for m, v, ok in zip(months, values, known, strict=True)
        ]
    path = folder / f"table{series}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _language(folder: Path, **how: Any) -> Task:
    sizes = {"embedding_size": 6, "batch_size": 2, "sequence_length": 8}
    return gw.LanguageModel(**{**SMALL, **sizes, **how}).fit([TEXT])


def _translator(folder: Path, **how: Any) -> Task:
    return gw.Translator(**{**SMALL, "vocabulary": "words", "embedding_size": 6, **how}).fit(PAIRS)


MODELS: dict[str, Callable[[Path], Task]] = {
    "adding": lambda folder: Adding(cell="lstm", num_layers=2, span=9, **SMALL).fit(),
    "copy": lambda folder: Copy(cell="mgu", span=3, **SMALL).fit(),
    "language": lambda folder: _language(folder, num_layers=2, tied=True),
    "language adaptive": lambda folder: _language(
        folder, cell="lstm", hidden_size=16, cutoffs="5,9", layer_norm=True, num_layers=2
    ),
    "translate": lambda folder: _translator(folder, num_layers=2),
    "translate final": lambda folder: _translator(folder, cell="lstm", decoder="final", joint=False),
    "forecast": lambda folder: gw.Forecaster(level=[80, 95], n_models=2, horizon=5, **SMALL).fit(table(folder)),
    "forecast steps": lambda folder: gw.Forecaster(strategy="steps", horizon=5, **SMALL).fit(table(folder, 2)),
    "forecast gaps": lambda folder: gw.Forecaster(cell="gru_d", horizon=5, **SMALL).fit(table(folder, 3)),
}


def fitted(name: str, folder: Path) -> Task:
    task = MODELS[name](folder)
    asymmetric(task.fitted())
    return task
