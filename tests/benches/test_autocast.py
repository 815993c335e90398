"""The benchmark of layers under autocast: a row for each, and no time for wrong numbers."""

import pytest
import torch

from benches import autocast


def test_a_row_for_the_forward_and_for_training() -> None:
    rows = autocast.measure("GRU", (3, 4, 5, 16), 1)
    assert [row["what"] for row in rows] == ["forward", "training"]
    assert set(rows[0]["milliseconds"]) == set(autocast.KINDS)
    shown = autocast.table(rows).splitlines()
    assert len(shown) == 4
    assert shown[2].startswith("| GRU, forward | 3, 4, 5, 16 | ")


def test_wrong_numbers_have_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    real = autocast.results

    def results(layer: torch.nn.Module, x: torch.Tensor, half: bool) -> list[torch.Tensor]:
        found = real(layer, x, half)
        return [1.1 * t for t in found] if half else found

    monkeypatch.setattr(autocast, "results", results)
    rows = autocast.measure("LSTM", (3, 4, 5, 16), 1)
    assert set(rows[0]["milliseconds"]) == {"gatewise, float32", "torch, float32"}
    assert "| wrong |" in autocast.table(rows)
