"""The benchmarks of GRU-D: what they train on is what was said, and what they time was compared."""

import gzip
import math
from pathlib import Path

import pytest
import torch

import gatewise as gw
from benches import custom_cell, gaps


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Some hundred hours in the layout of the real table."""
    path = tmp_path / "pollution.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("No,pm2.5,DEWP,TEMP,PRES,Iws\n")
        for hour in range(700):
            air = "NA" if hour % 50 == 0 else f"{60 + 40 * math.sin(hour / 9):.0f}"
            file.write(f"{hour},{air},{hour % 7},{hour % 24},{1000 + hour % 11},{hour % 5}\n")
    return path


def test_every_way_is_trained_and_scored(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gaps, "UPDATES", 1)
    monkeypatch.setattr(gaps, "BATCH", 4)
    gaps.main(["--data", str(table), "--epochs", "1", "--seeds", "2", "--hidden-size", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:30].strip() for line in lines[2:]] == [*gaps.WAYS, "last observation"]
    assert "nan" not in "".join(lines)


def test_no_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--data must be the Beijing PM2.5 table .* does not exist"):
        gaps.main(["--data", str(tmp_path / "missing.csv.gz")])


def test_outages_are_as_many_and_as_long_as_said() -> None:
    gone = gaps.outages(50_000, 2, 0.6, 8.0)
    assert 0.57 < gone.float().mean() < 0.63
    runs = (gone[1:] & ~gone[:-1]).sum()
    assert 7.5 < gone.sum() / runs < 8.5


def test_no_target_reaches_into_the_next_part(table: Path) -> None:
    data = gaps.prepare(gaps.read(table), 0.5, 4.0, ahead=6)
    for cut in data.cuts:
        assert data.target[cut - 6 : cut].isnan().all()
    hour = next(t for t in range(100) if not data.target[t].isnan().any() and data.full.mask[t + 6, 0, 0] > 0)
    assert data.target[hour] == data.full.x[hour + 6, 0, 0]


def test_what_is_timed_was_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(custom_cell, "SHAPES", ((2, 3, 4, 5),))
    before = torch.get_num_threads()
    try:
        custom_cell.main(["--seconds", "0.01"])
    finally:
        torch.set_num_threads(before)
    assert capsys.readouterr().out.count("2,3,4,5") == 3
    layer = gw.Recurrent(gw.cells.gru_d, 4, 5)
    monkeypatch.setattr(layer, "stream", lambda rows: gw.Recurrent(gw.cells.gru_d, 4, 5).stream(rows))
    with pytest.raises(SystemExit, match="has other bits than the whole sequence"):
        custom_cell.check(layer, gw.gaps(torch.randn(3, 2, 4)))
