"""The command line: what it prints, what it writes, its exit codes, and one line for every bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gatewise import cli
from gatewise.backends import cache

Run = Callable[..., tuple[int, str, str]]
QUICK = ["--horizon", "4", "--hidden-size", "6", "--max-steps", "10"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two daily series."""
    days = np.datetime64("2020-01-01") + np.arange(60)
    rows = [f"{name},{day},{i % 7 + i * i % 11 + (name == 'b') * 10}" for name in "ab" for i, day in enumerate(days)]
    (tmp_path / "data.csv").write_text("\n".join(["unique_id,ds,y", *rows]) + "\n")
    return tmp_path / "data.csv"


def test_fit_score_predict(run: Run, data: Path, tmp_path: Path) -> None:
    code, out, err = run("fit", "forecast", data, "-o", tmp_path / "m", *QUICK, "--json")
    assert code == 0
    summary = json.loads(out)
    assert set(summary["scores"]) == {"gru", "seasonal naive", "last value"}
    events = [json.loads(line) for line in err.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
    assert json.loads(run("score", tmp_path / "m", "--json")[1])["scores"] == summary["scores"]
    assert "seasonal naive" in run("score", tmp_path / "m", data)[1]
    code, out, _ = run("predict", tmp_path / "m", "--json")
    forecasts = json.loads(out)["forecasts"]
    assert [(f["unique_id"], f["ds"]) for f in forecasts[3:5]] == [("a", "2020-03-04"), ("b", "2020-03-01")]
    assert (tmp_path / "m" / "forecast.png").exists()
    assert len((tmp_path / "m" / "forecast.csv").read_text().splitlines()) == 9
    code, out, _ = run("predict", tmp_path / "m", data, "-o", tmp_path / "elsewhere")
    assert code == 0
    assert "2020-03-04" in out
    assert (tmp_path / "elsewhere" / "forecast.png").exists()


def test_same_command_same_model(run: Run, data: Path, tmp_path: Path) -> None:
    for name in ("m", "n"):
        assert run("fit", "forecast", data, "-o", tmp_path / name, *QUICK, "--seed", "5", "--backend", "eager")[0] == 0
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("m", "n"))
    assert first == second


def test_compare(run: Run, data: Path, tmp_path: Path) -> None:
    arguments = ["--horizon", "4", "--hidden-size", "4", "--max-steps", "5", "--seeds", "1", "--cells", "rnn,mgu"]
    code, out, _ = run("compare", "forecast", data, "-o", tmp_path / "c", *arguments)
    assert code == 0
    assert "equal parameters" in out
    assert (tmp_path / "c" / "compare.png").exists()
    entries = json.loads((tmp_path / "c" / "compare.json").read_text())["entries"]
    assert [e["cell"] for e in entries] == ["rnn", "mgu", "mgu"]


def test_cells_and_info(run: Run) -> None:
    assert "light_gru" in run("cells")[1]
    assert "r = σ(W_r x + U_r h + b_r)" in run("cells", "gru")[1]
    (record,) = json.loads(run("cells", "lstm", "--input-size", "3", "--hidden-size", "5", "--json")[1])
    assert record["parameters"] == 4 * 5 * (3 + 5 + 1)
    assert json.loads(run("info", "--json")[1])["gatewise"] == run("--version")[1].strip()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")
def test_info_says_why_a_cache_folder_is_not_used(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_process", cache._Process())
    _, out, err = run("info")
    assert (f"cache              {tmp_path}\n" in out, "cache_problem" in out, err) == (True, False, "")
    tmp_path.chmod(0o777)
    _, out, err = run("info")
    assert f"cache_problem      the cache folder {tmp_path} is not used, because {tmp_path} can be written" in out
    assert err == ""


def test_the_diagram_of_a_cell_of_ones_own(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["import gatewise as gw", "@gw.cell", "def mine(gate, x, h):", "    return gw.tanh(gate.a(x, h)) + 0.5 * h"]
    (tmp_path / "owncells.py").write_text("\n".join(lines))
    for name in ("owncells:mine", "owncells.py:mine"):
        code, out, _ = run("cells", name, "--diagram", f"made/{name.replace(':', '-')}.svg")
        assert code == 0
        assert "a = tanh(W_a x + U_a h + b_a)" in out
    assert (tmp_path / "made" / "owncells-mine.svg").read_text().count("<svg") == 1


def test_compare_an_exercise_with_a_cell_of_ones_own(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["import gatewise as gw", "@gw.cell", "def mine(gate, x, h):", "    return gw.tanh(gate.a(x, h)) + 0.5 * h"]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    arguments = ["--cells", "gru,mine.py:mine", "--hidden-size", "4", "--max-steps", "4", "--span", "4", "--seeds", "2"]
    code, out, _ = run("compare", "adding", *arguments, "--equal", "size", "-o", "c")
    assert code == 0
    assert "At equal size" in out
    assert "ms/forward" in out
    for one in ("trace", "gradients"):
        assert run(one, "c/fits/mine-size-4-seed0", "-o", f"{one}.png")[0] == 0
    assert run("report", "c/fits/mine-size-4-seed0", "-o", "page")[0] == 0
    assert (tmp_path / "page" / "report.html").exists()
    code, _, err = run("compare", "adding", "--equal", "weight")
    assert (code, "equal must name some of" in err) == (2, True)


def test_trace_and_gradients(run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("fit", "forecast", data, "-o", "m", *QUICK)[0] == 0
    code, out, _ = run("trace", "m", "-o", "made/gates.png")
    assert code == 0
    assert "half-life by z" in out
    assert (tmp_path / "made" / "gates.csv").read_text().startswith("step,label,unit,half_life_steps,output,r,z,n")
    summary = json.loads(run("trace", "m", data, "-o", "again.svg", "--json")[1])
    assert len(summary["half_life_steps"]) == 6
    code, out, _ = run("gradients", "m", "-o", "flow.png", "--of", "0")
    assert code == 0
    assert json.loads((tmp_path / "flow.json").read_text())["saliency"]["output"] == "output 0 of the last step"
    code, out, _ = run("gradients", "rnn", "-o", "rnn.png", "--steps", "6", "--hidden-size", "4", "--seeds", "1")
    assert code == 0
    assert "orthogonal" in out
    for arguments, sentence in (
        (["trace", "m", "-o", "again.svg"], "output file again.svg exists"),
        (["trace", "nowhere"], "nowhere is not a model directory"),
        (["trace", "m", "none.csv"], "there is no file none.csv"),
        (["trace", "m", "-o", "gates.txt"], "must end in .png or .svg or .pdf"),
        (["trace", "m", "-o", "x.png", "--row", "7"], "row must be from 0 to 1, got 7"),
        (["gradients", "gro"], "cell must be one of gru"),
        (["gradients", "gru", "data.csv"], "INPUT and --of belong to a model"),
        (["gradients", "m", "-o", "y.png", "--of", "4"], "output must be from 0 to 0, got 4"),
    ):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert sentence in err


def test_help_without_arguments(run: Run) -> None:
    code, out, err = run()
    assert (code, err) == (2, "")
    assert "compare" in out
    assert run("fit", "forecast", "-h")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "forecast"], "Missing option '-o'"),
        (["fit", "weather", "-o", "m"], "there is no task 'weather'; there are forecast, translate"),
        (["fit", "forecast", "none.csv", "-o", "m"], "there is no file none.csv"),
        (["fit", "forecast", "bad.csv", "-o", "m"], "line 2 has the value 'much'"),
        (["fit", "forecast", "empty.csv", "-o", "m"], "empty.csv is empty"),
        (["fit", "forecast", "-o", "m", "--horizon", "0"], "horizon must be an integer of at least 1, got 0"),
        (["fit", "forecast", "-o", "m", "--horizon", "9999"], "horizon of 9999 is too long"),
        (["fit", "forecast", "-o", "m", "--horizon", "many"], "Invalid value for '--horizon'"),
        (["fit", "forecast", "-o", "m", "--horizon", "1e3"], "got '1e3'"),
        (["fit", "forecast", "-o", "m", "--hidden-size=abc"], "got 'abc'"),
        (["fit", "forecast", "-o", "m", "--cell", "gro"], "cell must be one of gru"),
        (["fit", "forecast", "-o", "m", "--backend", "gpu"], "backend must be one of auto, cpu, cuda, eager"),
        (["fit", "forecast", "-o", "empty.csv/m"], "cannot be written"),
        (["fit", "forecast", "-o", "m", "--resume"], "m is not a model directory"),
        (["predict", "m"], "m is not a model directory: config.json is missing"),
        (["score", "foreign"], "task must be one of forecast"),
        (["compare", "forecast", "--cells", "gru"], "at least two different cells"),
        (["predict", "bad.csv"], "bad.csv is a file, expected the directory of a model"),
        (["fit", "forecast", "-o", ""], "expected the name of a directory, got ''"),
        (["fit", "forecast", "", "-o", "m"], "expected the name of a file, got ''"),
        (["fit", "forecast", "-o", "m", "--devices", "1000"], "devices must be an integer of at most"),
        (["score", "--json", "m"], "the directory of the model comes first, got '--json'"),
        (["fit", "forecast", "-o", "m", "--season", "100000"], "season of 100000 is too long"),
        (["fit", "forecast", "-o", "m", "--learning-rate", "inf"], "learning_rate must be a number above 0"),
        (["fit", "forecast", "-o", "m", "--level", "80", "high"], "there is no file high"),
        (["fit", "forecast", "bad.csv", "-o", "m", "--lags", "1", "0.5"], "lags must be whole numbers"),
        (["fit", "forecast", "bad.csv", "-o", "m", "--horizon", "1", "2"], "unexpected extra argument"),
        (["fit", "forecast", "-o", "m", "--level", "0.8"], "level must be at least 1 per cent, got 0.8; was 80 meant?"),
        (["cells", "gro"], "cell must be one of gru"),
        (["cells", "none.py:gro"], "cell 'none.py:gro': there is no file none.py"),
        (["cells", "nowhere:gro"], "module 'nowhere' cannot be imported"),
        (["cells", "json:loads"], "json has no cell 'loads'; its cells are none"),
        (["cells", "gru", "--diagram", "bad.csv"], "output file must end in .svg, got 'bad.csv'"),
        (["cells", "gru", "--diagram", "old.svg"], "output file old.svg exists"),
        (["cells", "--diagram", "new.svg"], "--diagram draws one cell"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("ds,y\n2020-01-01,much\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "old.svg").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['typer'] = None; import gatewise.cli"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "gatewise: typer is not installed; pip install 'gatewise[apps]' brings it\n"


@pytest.mark.parametrize("module", ["gatewise", "gatewise.cli"])
def test_the_module_runs_too(module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.count(".") >= 1


def test_ctrl_c_while_torch_is_being_imported() -> None:
    tell = "class Tell:\n    def find_spec(self, name, *rest):\n        name == 'torch' and print('here', flush=True)\n"
    code = f"import sys\n{tell}sys.meta_path.insert(0, Tell())\nfrom gatewise_command import main\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "gatewise: interrupted\n")


def test_what_an_interrupted_fit_left_is_said(tmp_path: Path) -> None:
    assert cli.fit.state(tmp_path) == "nothing was written"
    (tmp_path / "config.json").write_text("{}")
    assert "no epoch was finished" in cli.fit.state(tmp_path)
    assert cli.fit.typed(tmp_path) == "; --resume starts it anew"
    (tmp_path / "model.safetensors").write_text("")
    assert "keeps the best model so far" in cli.fit.state(tmp_path)


def test_ctrl_c_keeps_the_best_model_and_resume_goes_on(run: Run, data: Path, tmp_path: Path) -> None:
    options = ["--horizon", "4", "--hidden-size", "6", "--patience", "999"]
    # Background jobs of a shell are started with SIGINT ignored; what they start inherits that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gatewise.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "fit", "forecast", str(data)]
    command += ["-o", str(tmp_path / "m"), "--epochs", "2000", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    started = tmp_path / "m" / "checkpoint.safetensors"
    while not started.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()  # of one that has ended, nothing happens
    assert process.returncode == 130
    assert "--resume goes on" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert run("score", tmp_path / "m")[0] == 0
    code, _, err = run("fit", "forecast", data, "-o", tmp_path / "m", *options)
    assert (code, "already holds a run" in err, "--resume goes on with it" in err) == (2, True, True)
    code, _, err = run("fit", "forecast", "-o", tmp_path / "m", "--resume", "--epochs", "300")
    assert (code, "epochs: the run in" in err) == (2, True)
