"""The table of verdicts: the page in the docs holds what the file beside it says."""

import json
from pathlib import Path

import pytest

from benches import claims

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_holds_the_verdicts_of_the_file() -> None:
    found = json.loads((DOCS / "trial.json").read_text())
    assert claims.table(found) in (DOCS / "comparison.md").read_text()


def test_plots_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = {name: name for name in claims.KEPT} | {"blocks": [1, 2, 3]}
    (tmp_path / "results.json").write_text(json.dumps({"fits": 3, "claims": [claim]}))
    claims.main([str(tmp_path / "results.json"), "--json", str(tmp_path / "out.json")])
    kept = json.loads((tmp_path / "out.json").read_text())
    assert kept == {"fits": 3, "claims": [{name: name for name in claims.KEPT}]}
    assert "| id | claim | **verdict** | sentence |" in capsys.readouterr().out
