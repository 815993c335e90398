"""Forecasters that another program cannot run as they are: a sentence in the place of half a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gatewise.tasks import InputError
from gatewise.tasks.forecast import Forecaster
from gatewise.tasks.forecast.export import ExportForecast

pandas = pytest.importorskip("pandas")
SMALL: dict[str, Any] = {"horizon": 4, "hidden_size": 4, "max_steps": 1, "n_models": 1}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "recursive", "covariates": "none"}, "strategy: paths of 'recursive' are drawn step by step here"),
        ({}, "covariates: the exported network reads values alone, expected a model without price"),
        ({"covariates": "none", "calendar": True}, "expected a model without week, year"),
    ],
)
def test_it_gets_a_sentence(options: dict[str, Any], sentence: str) -> None:
    days, values = pandas.date_range("2024-01-01", periods=60), np.random.default_rng(0).normal(size=(2, 60))
    frame = pandas.DataFrame({"ds": days, "y": values[0], "price": values[1]})
    task = Forecaster(**SMALL, **options).fit(frame)
    with pytest.raises(InputError, match=sentence):
        ExportForecast().parts(task)
