"""The benchmark of streams in bfloat16: a row for every size."""

import pytest
import torch

from benches import bfloat16


def test_every_size_has_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bfloat16, "SIZES", ((2, 5, 16),))
    monkeypatch.setattr(bfloat16, "RUNS", 1)
    before = torch.get_num_threads()
    try:
        bfloat16.main()
    finally:
        torch.set_num_threads(before)
    size, single, half = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert size == "2, 5, 16"
    assert int(single) > 0
    assert int(half) > 0
