"""The benchmark of streams: it times what it has checked, and says all it measured."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import gatewise as gw
from benches import stream


def test_every_column_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stream, "SHAPES", ((5, 16),))
    before = torch.get_num_threads()
    try:
        stream.main(["--seconds", "0.01", "--threads", "1", "--json", str(tmp_path / "found.json")])
    finally:
        torch.set_num_threads(before)
    (record,) = json.loads((tmp_path / "found.json").read_text())["steps"]
    assert record["shape"] == [1, 1, 5, 16]
    assert set(record["milliseconds"]) == set(stream.COLUMNS)
    assert "1,1,5,16" in capsys.readouterr().out


def test_wrong_numbers_get_no_time() -> None:
    layer, rival = gw.GRU(5, 16, reset_after=True), nn.GRU(5, 16)
    with pytest.raises(SystemExit, match=r"differs from torch.nn.GRU by more than 1e-5"):
        stream.check(layer, rival, torch.randn(4, 1, 5))
