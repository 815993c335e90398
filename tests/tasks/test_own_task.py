"""The task that the documentation builds, as a package with an entry point: in Python and on the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "own_task.md"
QUICK = ["--hidden-size", "16", "--max-steps", "200", "--learning-rate", "0.01"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def install(place: Path, name: str, module: str, points: str) -> None:
    """What pip leaves of a package with one module and entry points."""
    info = place / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(points)
    (place / f"{name}.py").write_text(module)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    points = re.search(r'"gatewise.tasks"\]\n(.*)', blocks("toml")[0])
    assert points is not None
    install(place, "sentiment", blocks("python")[0], "[gatewise.tasks]\n" + points[1].replace('"', "") + "\n")
    return place


def call(site: Path, place: Path, *command: str) -> tuple[int, str, str]:
    paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def gatewise(site: Path, place: Path, *words: str) -> tuple[int, str, str]:
    return call(site, place, "-m", "gatewise", *words)


def test_the_docs_use_of_it_runs(site: Path, tmp_path: Path) -> None:
    code, out, err = call(site, tmp_path, "-c", blocks("python")[1])
    assert (code, out.splitlines()[-1]) == (0, "['kind: the film was not dull']"), err


def test_its_verbs_are_on_the_command_line(site: Path, tmp_path: Path) -> None:
    code, out, err = gatewise(site, tmp_path, "fit", "sentiment", "-o", "m", *QUICK, "--json")
    assert code == 0, err
    scores = json.loads(out)["scores"]
    assert scores["gru"]["accuracy %"] > 95 > scores["most frequent"]["accuracy %"]
    assert gatewise(site, tmp_path, "predict", "m", "the film was not dull")[1] == "kind: the film was not dull\n"
    assert json.loads(gatewise(site, tmp_path, "score", "m", "--json")[1])["scores"] == scores
    assert "--batch-size" in gatewise(site, tmp_path, "fit", "sentiment", "--help")[1]
    asked = ["--cells", "gru,rnn", "--hidden-size", "4", "--max-steps", "6", "--seeds", "1", "--equal", "size"]
    code, out, err = gatewise(site, tmp_path, "compare", "sentiment", *asked)
    assert code == 0, err
    assert "At equal size" in out
    code, out, err = gatewise(site, tmp_path, "fit", "sentiment", "none.tsv", "-o", "n")
    assert (code, err) == (2, "gatewise: there is no file none.tsv\n")


def test_a_model_of_a_task_that_is_not_installed_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"task": "sentiment"}')
    code, _, err = gatewise(tmp_path, tmp_path, "score", "m")
    assert (code, err.count("\n")) == (2, 1)
    assert "task must be one of forecast, translate" in err


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("import nowhere", "task 'broken': broken:Broken cannot be imported: No module named 'nowhere'"),
        ("Broken = 3", "task 'broken': broken:Broken must be a gatewise.tasks.Task whose name is 'broken'"),
    ],
)
def test_a_broken_package_gets_a_sentence_and_harms_no_other_task(tmp_path: Path, module: str, sentence: str) -> None:
    install(tmp_path / "site", "broken", module, "[gatewise.tasks]\nbroken = broken:Broken\n")
    code, _, err = gatewise(tmp_path / "site", tmp_path, "fit", "broken", "-o", "m")
    assert (code, err) == (2, f"gatewise: {sentence}\n")
    code, out, err = gatewise(tmp_path / "site", tmp_path, "fit", "-h")
    assert (code, "forecast" in out) == (0, True), err
    assert gatewise(tmp_path / "site", tmp_path, "fit", "forecast", "-h")[0] == 0
