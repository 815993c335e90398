"""The bench beside neuralforecast: our own part of it, its figures, and the sentence where the package is absent."""

from __future__ import annotations

import argparse
import importlib.util

import numpy as np
import pytest

from benches import forecast_neural

pandas = pytest.importorskip("pandas")


def test_our_part_measures_times_and_an_error_of_the_unseen_origins() -> None:
    steps = np.arange(400)
    noise = np.random.default_rng(0).normal(size=(2, 400))
    values = 50 + 9 * np.sin(2 * np.pi * steps / 24) + noise
    table = forecast_neural.frame(dict(zip("ab", values, strict=True)))
    asked = argparse.Namespace(horizon=24, windows=3, step=1, steps=5)
    found = forecast_neural.gatewise(table, asked, unseen=26)
    assert found.keys() == {"fit", "cross_validation", "predict", "MASE"}
    assert all(value > 0 for value in found.values())
    assert found["MASE"] < 1.5


def test_ratios_say_how_many_times_as_fast_we_are() -> None:
    text = forecast_neural.report({"gatewise": {"fit": 2.0}, "neuralforecast": {"fit": 30.0}})
    assert text.splitlines()[-1] == "| `fit`, s | 2 | 30 | 15 |"


def test_without_the_package_one_sentence_says_what_brings_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("neuralforecast") is not None:
        pytest.skip("it is installed")
    monkeypatch.setattr("sys.argv", ["forecast_neural"])
    with pytest.raises(SystemExit) as ended:
        forecast_neural.main()
    assert ended.value.code == 2
    sentence = "neuralforecast is not installed; pip install 'gatewise[bench]' brings it\n"
    assert capsys.readouterr().err == sentence
