"""Every Python block and every `gatewise` command in the README and the docs runs."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.torch import save_file
from tasks.transcribe.conftest import RATE, sentences, spoken, written
from tasks.translate.conftest import few_phrases, toy
from torch import nn

from benches import option_tables
from gatewise import cli

ROOT = Path(__file__).parent.parent
ELSEWHERE = {"own_task.md"}  # tests/tasks/test_own_task.py runs it, as a package
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDED = {"formats.md": ("onnx", "onnxruntime", "onnxscript")}
"""What must be installed for the blocks and commands of a page."""
# What a page shows in full length is run in a few steps.
QUICK = {
    "fit": ["--max-steps", "10", "--hidden-size", "8"],
    "compare": ["--max-steps", "2", "--seeds", "1", "--hidden-size", "8"],
}


def pages_with(pattern: str) -> list[Any]:
    pages = [
        page for page in PAGES if page.name not in ELSEWHERE and re.search(pattern, page.read_text(), re.MULTILINE)
    ]
    return [pytest.param(page, id=page.name, marks=_where_installed(page.name)) for page in pages]


def _where_installed(page: str) -> Any:
    missing = [name for name in NEEDED.get(page, ()) if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture(scope="module", autouse=True)
def _few_phrases() -> Iterator[None]:
    with few_phrases():
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the files that the pages speak of."""
    months = np.datetime64("2010-01") + np.arange(96)
    values = 50 + 5 * np.sin(np.arange(96) / 12 * 2 * np.pi) + np.random.default_rng(0).normal(size=96)
    rows = [f"{month},{value:.2f}" for month, value in zip(months, values, strict=True)]
    (tmp_path / "sales.csv").write_text("\n".join(["month,sales (units)", *rows]) + "\n")
    for name, count, seed in (("train", 200, 0), ("val", 20, 1), ("test", 20, 2)):
        phrases = toy(count, seed)
        (tmp_path / f"{name}.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in phrases))
        for side, texts in zip(("en", "fr"), zip(*phrases, strict=True), strict=True):
            (tmp_path / f"{name}.{side}").write_text("\n".join(texts) + "\n")
    _with_covariates(tmp_path)
    model = nn.ModuleDict(
        {"encoder": nn.ModuleDict({"rnn": nn.GRU(3, 4, 2, bidirectional=True)}), "decoder": nn.LSTM(4, 5)}
    )
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "book.txt").write_text("The king sat. A king is a man. " * 60)
    (tmp_path / "other.txt").write_text("A man sat. " * 20)
    for name, seed in (("train", 0), ("val", 1)):
        written(tmp_path / "speech", sentences(12, seed), f"{name}.tsv")
    soundfile.write(tmp_path / "speech" / "call.wav", spoken("CAD AB"), RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _with_covariates(place: Path) -> None:
    """Tables of the page on forecasting: shops with their promotions, prices, and measurements of a transformer."""
    days = np.datetime64("2024-01-01") + np.arange(66)
    rows = [f"{s},{day},{i % 7 + 1},{i % 3 % 2},Bern" for s in "ab" for i, day in enumerate(days)]
    parts = {"shops": rows[:60] + rows[66:126], "later": rows[20:60] + rows[86:126]}
    for name, part in parts.items():
        (place / f"{name}.csv").write_text("\n".join(["unique_id,ds,y,promo,town", *part]) + "\n")
    planned = [",".join(row.split(",")[i] for i in (0, 1, 3)) for row in rows[60:66] + rows[126:]]
    (place / "planned.csv").write_text("\n".join(["unique_id,ds,promo", *planned]) + "\n")
    weeks = np.datetime64("2018-01-01") + 7 * np.arange(105)
    prices = [f"{week},{1 + i % 5 / 9},{2 - i % 7 / 9}" for i, week in enumerate(weeks)]
    (place / "stocks.csv").write_text("\n".join(["date,GOOG,AAPL", *prices]) + "\n")
    days = np.datetime64("1981-01-01") + np.arange(500)
    (place / "temperatures.csv").write_text("\n".join(["Date,Temp", *(f"{d},{i % 9}" for i, d in enumerate(days))]))
    hours = np.datetime64("2016-07-01T00") + np.arange(1200)
    heat = [f"{str(hour).replace('T', ' ')}:00:00,{i % 7},{20 + (i - 3) % 7}" for i, hour in enumerate(hours[:400])]
    (place / "heat.csv").write_text("\n".join(["ds,oven,room", *heat]) + "\n")
    loads = [f"{str(h).replace('T', ' ')}:00:00,{i % 24},{i % 5},{i % 24 + i % 7}" for i, h in enumerate(hours)]
    (place / "ETTh1.csv").write_text("\n".join(["date,HUFL,LULL,OT", *loads]) + "\n")


@pytest.mark.parametrize("page", pages_with(r"^```python"))
def test_python_blocks_run(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for language, text in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(compile(text, page.name, "exec"), names)


@pytest.mark.parametrize("page", pages_with(r"^\$ gatewise"))
def test_commands_run(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in re.findall(r"^\$ (gatewise .*)$", page.read_text(), re.MULTILINE):
        words = shlex.split(line, comments=True)
        quick = [] if "--resume" in words else QUICK.get(words[1], [])
        monkeypatch.setattr(sys, "argv", words + quick)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 0, line


def test_the_page_of_options_is_the_codes() -> None:
    assert (ROOT / "docs" / "options.md").read_text() == option_tables.page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
