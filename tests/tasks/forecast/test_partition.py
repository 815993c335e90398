"""Parts of a table forecast by themselves: the numbers of one process, on a cluster too."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.tasks import InputError
from gatewise.tasks.forecast import Forecaster

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
COLUMNS = ["unique_id", "ds", "y", "y-lo-80", "y-hi-80"]


def table(names: str = "abcdefgh") -> Any:
    days, parts = np.arange(60), []
    for i, name in enumerate(names):
        random = np.random.default_rng(i)
        promo = (random.random(60) < 0.3).astype(float)
        y = 9 + i + np.sin(days / 7 * 2 * np.pi) + 3 * promo + random.normal(0, 0.1, 60)
        y[55:] = np.nan
        when = pandas.date_range("2020-01-01", periods=60)
        parts.append(pandas.DataFrame({"unique_id": name, "ds": when, "y": y, "promo": promo}))
    return pandas.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def model() -> Forecaster:
    return Forecaster(horizon=5, level=80, hidden_size=6, max_steps=25).fit(table("abcd"))


def test_parts_give_the_numbers_of_the_whole(model: Forecaster) -> None:
    whole, sent = model.predict(table()), pickle.loads(pickle.dumps(model))
    parts = [sent.predict_partition(table()[lambda t, n=n: t.unique_id.isin(list(n))]) for n in ("acg", "b", "dhfe")]
    found = pandas.concat(parts).sort_values(["unique_id", "ds"], ignore_index=True)
    assert list(found.columns) == COLUMNS
    assert (found[["unique_id", "ds"]] == whole[["unique_id", "ds"]]).all(axis=None)
    size = {"rtol": 1e-6, "atol": 1e-6}  # of values about 10: ends of intervals lie near 0
    np.testing.assert_allclose(found[COLUMNS[2:]], whole[COLUMNS[2:]], **size)


@pytest.mark.parametrize("library", [pandas, polars], ids=["pandas", "polars"])
def test_parts_without_series_give_no_rows(library: Any, model: Forecaster, caplog: pytest.LogCaptureFixture) -> None:
    whole = table()
    for part in (whole[:0], whole[:1], whole.assign(y=np.nan)[:20]):
        part = part if library is pandas else polars.DataFrame({name: part[name].to_list() for name in part})
        with caplog.at_level(logging.WARNING, "gatewise"):
            found = model.predict_partition(part)
        assert isinstance(found, library.DataFrame)
        assert list(found.columns) == COLUMNS
        assert len(found) == 0
    assert [r.getMessage() for r in caplog.records] == [
        "data: series 'a' has 1 values, expected at least 2",
        "data: series 'a' has missing values only, expected at least one number",
    ]


def test_what_is_no_frame_and_what_cannot_be_read_gets_a_sentence(model: Forecaster) -> None:
    for data in ("sales.csv", None, 3):
        with pytest.raises(InputError, match="data must be an eager data frame, got"):
            model.predict_partition(data)
    with pytest.raises(InputError, match="future_cols: the data frame has no column 'promo'"):
        model.predict_partition(table().drop(columns="promo"))
    with pytest.raises(InputError, match="not fitted"):
        Forecaster().predict_partition(table())


@pytest.mark.slow
def test_the_session_of_the_documentation_on_a_cluster_of_two_workers() -> None:
    pytest.importorskip("ray.data")
    page = (Path(__file__).parents[3] / "docs" / "forecasting.md").read_text()
    (session,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    options = {"horizon": 5, "hidden_size": 6, "max_steps": 25}
    names: dict[str, Any] = {"np": np, "shops": table(), "model": Forecaster(**options).fit(table("abcd"))}
    exec(compile(session, "forecasting.md", "exec"), names)
    assert len(names["found"]) == len(names["whole"]) == 40
    assert names["found"]["unique_id"].tolist() == names["whole"]["unique_id"].tolist()
