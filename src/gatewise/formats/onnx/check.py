"""Graphs in ONNX Runtime, beside what they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InputError, need

TOLERANCE = 1e-5
"""The largest relative difference of a graph that is written: float32 rounds by 6e-8, which some thousand steps and
sums add up."""
Arrays = Mapping[str, NDArray[Any]]


class Session:
    """A graph in ONNX Runtime, on the processor."""

    def __init__(self, model: bytes) -> None:
        runtime = need("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises nothing more special
            raise InputError(f"ONNX Runtime refuses the graph: {_short(error)}") from error
        self.outputs = [one.name for one in self._session.get_outputs()]

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs by name."""
        try:
            found = self._session.run(self.outputs, dict(inputs))
        except Exception as error:
            raise InputError(f"ONNX Runtime cannot run the graph: {_short(error)}") from error
        return dict(zip(self.outputs, found, strict=True))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """The largest difference of two arrays, in units of the largest number expected. Infinite where shapes differ, or
    one has a number and the other none."""
    if expected.shape != found.shape:
        return float("inf")
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    known = np.isfinite(a)
    if not np.array_equal(a[~known], b[~known], equal_nan=True) or not np.isfinite(b[known]).all():
        return float("inf")
    apart = float(np.abs(a[known] - b[known]).max(initial=0.0))
    most = float(np.abs(a[known]).max(initial=0.0))
    return 0.0 if not apart else apart / most if most else float("inf")


def largest(pairs: Iterable[tuple[str, NDArray[Any], NDArray[Any]]], what: str) -> float:
    """The largest difference of (name, expected, found).

    Raises:
        InputError: for one above ``TOLERANCE``; the sentence names where.
    """
    worst = 0.0
    for name, expected, found in pairs:
        apart = difference(expected, found)
        if not apart <= TOLERANCE:
            raise InputError(
                f"{what}: {name} in ONNX Runtime differs from Gatewise's by {apart:.2g} of its largest number, "
                f"expected at most {TOLERANCE:g}; nothing was written"
            )
        worst = max(worst, apart)
    return worst
