"""The benchmark of the GPU, on the processor: what it refuses, writes and goes on with."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gatewise as gw
from benches import cuda
from benches.cuda_rows import LIMITS, Place, Row, verdict, wrong

SMALL = ["--shapes", "2,4,3,8", "--dtypes", "tf32"]


def clock(call: Callable[[], object]) -> float:
    call()
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def here(backend: str = "cpu") -> Place:
    """The processor in the place of a card; a call is repeated where a card would replay it."""
    return Place(torch.device("cpu"), backend, clock, lambda call: call, lambda call: float(call() is None))


def ran(path: Path, *more: str) -> tuple[int, list[dict[str, object]]]:
    options = cuda.parser().parse_args([*SMALL, *more])
    status = cuda.run(cuda.rows(options), here(), options, path, {"card": "none"})
    return status, json.loads(path.read_text())["rows"]


def test_rows_are_checked_timed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = ran(tmp_path / "found.json", "--formulas", "lstm", "mgu")
    assert status == 0
    lstm, custom = found
    assert set(lstm["ours"]) == set(lstm["torch"]) == set(cuda.TIMES)
    assert set(lstm["loop"]) == {"forward", "both"}
    assert "torch" not in custom
    assert max(lstm["errors"].values()) < LIMITS["tf32"]
    assert "lstm tf32 2,4,3,8 (cpu/" in capsys.readouterr().out


def test_rows_that_are_there_are_kept_and_the_others_added(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    _, first = ran(path, "--formulas", "lstm", "--no-peers")
    _, both = ran(path, "--formulas", "lstm", "gru_after", "--no-peers", "--add")
    assert both[0] == first[0]
    assert [record["formula"] for record in both] == ["lstm", "gru_after"]


def test_after_its_seconds_no_row_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = cuda.parser().parse_args([*SMALL, "--seconds", "0"])
    path = tmp_path / "found.json"
    assert cuda.run(cuda.rows(options), here(), options, path, {}) == 0
    assert not path.exists()
    assert "4 rows were not reached in 0 s; --add goes on with them" in capsys.readouterr().err


def test_wrong_numbers_get_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "tf32", 1e-12)
    status, (record,) = ran(tmp_path / "found.json", "--formulas", "gru_before")
    assert status == 1
    assert "ours" not in record
    assert "expected at most 1e-12" in str(record["problem"])


def test_what_is_no_number_is_wrong() -> None:
    assert verdict({"y": 0.0, "d.x": float("nan")}, 1e-3).startswith("d.x is wrong by nan")
    assert verdict({"y": 0.0, "d.x": 1e-4}, 1e-3) == ""


def test_every_gradient_is_compared() -> None:
    row = Row("gru_before", "tf32", (2, 4, 3, 8))
    layer = row.layer(here())
    found = wrong(layer, *row.data(here(), 4), here())
    assert list(found) == ["y", "d.x", *(f"d.{name}" for name, _ in layer.named_parameters())]


def test_what_cannot_run_is_said(tmp_path: Path) -> None:
    options = cuda.parser().parse_args([*SMALL, "--formulas", "gru_before"])
    path = tmp_path / "found.json"
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert cuda.run(cuda.rows(options), here("cuda"), options, path, {}) == 1
    (record,) = json.loads(path.read_text())["rows"]
    assert "computes on a GPU" in record["problem"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_card_one_sentence_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda.main([]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "torch finds none here" in said.err


def test_a_shape_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        cuda.parser().parse_args(["--shapes", "2,4,3"])
    assert refused.value.code == 2
    assert "a shape must read B,T,I,H with sizes of at least 1, got '2,4,3'" in capsys.readouterr().err


def test_a_card_gives_its_file_the_name() -> None:
    assert cuda.file_name("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3.json"


def test_the_peers_are_the_layers_of_torch() -> None:
    assert isinstance(Row("lstm", "tf32", (1, 1, 2, 3)).rival(here()), torch.nn.LSTM)
    assert isinstance(Row("gru_before", "tf32", (1, 1, 2, 3)).layer(here()), gw.Recurrent)
