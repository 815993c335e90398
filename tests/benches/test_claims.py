"""The table of verdicts: the page in the docs holds what the file beside it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from benches import claims
from gatewise.study.trial.kept import agreement
from gatewise.study.trial.shown import BASIS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_holds_the_verdicts_of_the_file() -> None:
    found = json.loads((DOCS / "trial.json").read_text())
    assert claims.table(found) in (DOCS / "comparison.md").read_text()


def results(scale: str, only: list[str] | None = None) -> dict[str, Any]:
    """Results of a trial, with plots."""
    basis = dict.fromkeys(BASIS, "said")
    claim = {name: name for name in claims.KEPT} | {"basis": basis, "blocks": [1, 2, 3], "agreement": "none"}
    check = {name: name for name in claims.CHECKED} | {"blocks": [1]}
    made = {"gatewise": "0", "machine": {}, "seconds": 1.0, "fits": 3, "only": only}
    return {**made, "scale": {"name": scale}, "checks": [check], "claims": [claim]}


def test_plots_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = results("short")
    (tmp_path / "results.json").write_text(json.dumps(found))
    out, full = tmp_path / "out.json", tmp_path / "full.json"
    claims.main([str(tmp_path / "results.json"), "--json", str(out), "--full", str(full)])
    kept = json.loads(out.read_text())
    assert set(kept["claims"][0]) == set(claims.KEPT)
    assert set(kept["checks"][0]) == set(claims.CHECKED)
    assert not full.exists()
    printed = capsys.readouterr().out
    assert "| id | claim | **verdict** | sentence |" in printed
    assert "| id | known | **outcome** | sentence |" in printed
    assert "- Rule: rule\n- Margin: said\n- Budget: said\n" in printed
    assert "- Level of guessing: said\n- What would change it: said" in printed


def test_the_verdicts_of_a_whole_full_trial_are_kept(tmp_path: Path) -> None:
    for found, is_kept in ((results("full", ["C9"]), False), (results("full"), True)):
        (tmp_path / "results.json").write_text(json.dumps(found))
        full = tmp_path / "full.json"
        claims.main([str(tmp_path / "results.json"), "--json", str(tmp_path / "out.json"), "--full", str(full)])
        assert full.exists() == is_kept
    assert json.loads(full.read_text())["verdicts"] == {"id": "verdict"}


def test_a_short_verdict_is_read_beside_the_full_one() -> None:
    full = {"C9": "holds"}
    assert agreement("C9", "holds", full) == "the full trial agreed"
    assert agreement("C9", "fails", full) == "the full trial says: holds"
    assert agreement("C6", "fails", full) == "no full trial is kept for this claim"
