"""The figures of the page on forecasting: what the file of figures says, made by one command."""

from __future__ import annotations

import copy
import json
from typing import Any

from benches.forecast_tables import FIGURES, PAGE, beside, classical, figure, loss, page, strategies

KEPT: dict[str, Any] = {
    "rows": {
        "airline 0": {"figures": {"MASE": 0.5, "quantile loss": 0.3, "seasonal naive": 1.2}, "seconds": 9},
        "airline 1": {"figures": {"MASE": 0.7, "quantile loss": 0.3, "seasonal naive": 1.2}, "seconds": 9},
        "airline-refitted 0": {"figures": {"MASE": 0.4}, "seconds": 9},
    },
    "classical": {"airline": {"Theta": {"MASE": 0.8}, "AutoETS": {"MASE": 0.9}, "AutoARIMA": {"MASE": None}}},
}


def test_the_page_has_the_figures_of_the_file() -> None:
    text = PAGE.read_text()
    assert page(text, json.loads(FIGURES.read_text())) == text
    for name in ("figures", "strategies", "scalings", "classical", "neural"):
        assert text.count(f"<!-- {name}: begin -->") == 1


def test_several_seeds_are_a_mean_and_a_spread() -> None:
    assert figure(KEPT, "airline", "MASE") == "0.600 ± 0.141"
    assert figure(KEPT, "airline-refitted", "MASE") == "0.400"
    assert figure(KEPT, "co2", "MASE") == "—"


def test_the_best_statistical_method_stands_beside_a_row() -> None:
    assert beside(KEPT, "airline-refitted") == "Theta 0.800"
    assert beside({**KEPT, "classical": {}}, "airline") == "seasonal naive 1.200"
    assert classical(KEPT).splitlines()[-1].split(" | ")[1:4] == ["—", "0.900", "0.800"]


def test_a_figure_of_an_earlier_calibration_is_marked() -> None:
    kept = copy.deepcopy(KEPT)
    assert loss(kept, "airline") == "0.300"
    kept["rows"]["airline 0"]["calibration"] = "by values"
    assert loss(kept, "airline") == "0.300†"


def test_a_row_that_was_not_run_is_a_dash() -> None:
    assert strategies(KEPT).splitlines()[2] == (
        "| airline passengers, 3 origins of 12 months | 0.600 ± 0.141 (0.300) | — | 1.200 |"
    )
