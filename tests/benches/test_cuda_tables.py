"""The figures of the page on GPUs: what the file of figures says, made by one command."""

from __future__ import annotations

import json
from typing import Any

from benches.cuda_tables import ABSENT, FIGURES, PAGE, REPLAYED, beside_torch, page, pair, times

ROW: dict[str, Any] = {
    "formula": "gru_after",
    "dtype": "bf16",
    "shape": [32, 100, 128, 256],
    "ours": {"forward replayed": 0.5, "both replayed": 2.0},
    "torch": {"forward replayed": 5.0, "both replayed": 11.0},
}


def test_the_page_has_the_figures_of_the_file() -> None:
    text = PAGE.read_text()
    assert page(text, json.loads(FIGURES.read_text())) == text
    for name in ("bf16 replayed", "fp16 replayed", "tf32 replayed", "bf16 called", "others"):
        assert text.count(f"<!-- {name}: begin -->") == 1


def test_a_row_says_how_many_times_as_fast() -> None:
    assert pair(ROW, "ours", REPLAYED) == "0.5 / 2"
    assert times(ROW, ROW, REPLAYED) == "10.0 / 5.5"
    line = beside_torch({"rows": [ROW]}, "bf16", REPLAYED).splitlines()[-1]
    assert line.startswith("| 32,100,128,256 | 5 / 11 | 0.5 / 2 | 10.0 / 5.5 | — |")


def test_what_has_no_time_has_a_dash() -> None:
    wrong = {"formula": "lstm", "problem": "d.x is wrong by 1, expected at most 0.02"}
    assert pair(wrong, "ours", REPLAYED) == pair(None, "ours", REPLAYED) == times(wrong, ROW, REPLAYED) == ABSENT
