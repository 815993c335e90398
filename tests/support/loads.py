"""Tables with two targets: loads of houses, and an oil temperature that follows them three days later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

BEHIND = 3


def loads(days: int = 150, names: str = "ab", gaps: float = 0.0) -> Any:
    """Random walks ``load``, and ``oil``, in a unit of its own; some values are missing, of each by itself."""
    pandas, parts = pytest.importorskip("pandas"), []
    for i, name in enumerate(names):
        random = np.random.default_rng(i)
        load = 50 + np.cumsum(random.normal(size=days + BEHIND))
        oil = 400 + 20 * load[:days] + random.normal(size=days)
        both = np.stack([load[BEHIND:], oil], 1)
        both[random.random(both.shape) < gaps] = np.nan
        when = pandas.date_range("2020-01-01", periods=days)
        parts.append(pandas.DataFrame({"unique_id": name, "ds": when, "load": both[:, 0], "oil": both[:, 1]}))
    return pandas.concat(parts, ignore_index=True)
