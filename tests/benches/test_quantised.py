"""The benchmark of layers in int8: a row for every shape, and one of a stream for those of one step."""

import pytest
import torch

from benches import quantised


def test_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(quantised, "SECONDS", 0.0)
    monkeypatch.setattr(quantised, "LEAST", 1)
    before = torch.get_num_threads()
    try:
        quantised.main(("2,1,5,16", "1,3,5,16"))
    finally:
        torch.set_num_threads(before)
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["2,1,5,16", "call"], ["2,1,5,16", "stream"], ["1,3,5,16", "call"]]
    errors = [float(cell.partition("(")[2].rstrip(")")) for cell in rows[2][2:]]
    assert errors[0] < 1e-5 < errors[1] < 0.05
