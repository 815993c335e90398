"""The search over tiles: every phase has a row, and only the right bits get a time."""

import json
from pathlib import Path

import pytest

from benches import tiles
from benches.check import WrongNumbersError
from benches.columns import COLUMNS
from benches.problem import Problem
from benches.shapes import Shape

SHAPE = Shape(3, 6, 5, 20)


def test_every_phase_of_the_recurrence_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tiles.json"
    assert tiles.main(["--shapes", "3,6,5,20", "--forms", "gru_before", "--budget", "0.01", "--json", str(out)]) == 0
    records = json.loads(out.read_text())["records"]
    assert [record["sums"] for record in records] == ["state.h × 2", "keep0 × 1"]
    for record in records:
        assert record["tiles"] > 3
        assert record["chosen_ms"] >= record["best_ms"] > 0
    assert "GRU" in capsys.readouterr().out


def test_a_tile_that_gives_other_bits_stops_the_search() -> None:
    run = COLUMNS[1].start(Problem.of(SHAPE, "gru_after"))
    model = tiles.Variant()
    right = model.run(run.results)
    (key, (phase, tier, chosen)) = next(iter(model.seen.items()))
    other = next(t for t in tiles.tile.candidates(phase, tier) if t != chosen)
    tiles.checked(tiles.Variant(key, other), run, right)
    with pytest.raises(WrongNumbersError, match="gives another y"):
        tiles.checked(tiles.Variant(key, other), run, {**right, "y": right["y"] + 1e-6})


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiles.main(["--json", str(tmp_path / "none" / "tiles.json")]) == 2
    assert "must name a file" in capsys.readouterr().err
