"""The verdicts of a trial as the table of ``docs/comparison.md``: ``python -m benches.claims trial/results.json``.

Keeps the claims, rules, sentences and figures of the trial in ``docs/trial.json``, without its plots, and prints the
tables that the page holds: checks, verdicts, and on what each rests; a test checks that the page and the file agree.
The verdicts of a full trial are kept in the package too, where a short one reads them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gatewise.study.trial
from gatewise.study.trial.kept import KEPT as FULL
from gatewise.study.trial.kept import is_full, kept
from gatewise.study.trial.shown import BASIS
from gatewise.tasks.folder import write_json

KEPT = ("id", "claim", "how", "rule", "verdict", "sentence", "figures", "basis")
CHECKED = ("id", "known", "how", "rule", "outcome", "sentence", "figures")
PACKAGE = Path(gatewise.study.trial.__file__).parent / FULL


def short(results: dict[str, Any]) -> dict[str, Any]:
    """A trial without what is only drawn."""
    claims = [{name: claim[name] for name in KEPT} for claim in results["claims"]]
    checks = [{name: check[name] for name in CHECKED} for check in results["checks"]]
    return {**results, "checks": checks, "claims": claims}


def table(results: dict[str, Any]) -> str:
    """The verdicts as Markdown."""
    rows = [f"| {c['id']} | {c['claim']} | **{c['verdict']}** | {c['sentence'].strip()} |" for c in results["claims"]]
    return "\n".join(["| | Claim | Verdict | What came out |", "|---|---|---|---|", *rows])


def checks(results: dict[str, Any]) -> str:
    """The checks of the instrument as Markdown."""
    rows = [f"| {c['id']} | {c['known']} | **{c['outcome']}** | {c['sentence']} |" for c in results["checks"]]
    return "\n".join(["| Check | What is known | Outcome | What came out |", "|---|---|---|---|", *rows])


def decisive(results: dict[str, Any]) -> str:
    """On what each verdict rests, as Markdown: from its rule to what would change it."""
    parts = []
    for claim in results["claims"]:
        named = {"Rule": claim["rule"], **{title: claim["basis"][name] for name, title in BASIS.items()}}
        parts += [f"**{claim['id']}, {claim['verdict']}**", "", *(f"- {k}: {v}" for k, v in named.items()), ""]
    return "\n".join(parts).strip()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.claims", description=__doc__.split("\n\n")[0])
    parser.add_argument("results", type=Path, help="results.json of a trial")
    parser.add_argument("--json", type=Path, default=Path("docs/trial.json"), help="where the figures are kept")
    parser.add_argument("--full", type=Path, default=PACKAGE, help="where the verdicts of a full trial are kept")
    asked = parser.parse_args(arguments)
    found = short(json.loads(asked.results.read_text()))
    write_json(asked.json, found)
    if is_full(found):
        write_json(asked.full, kept(found))
    print("\n\n".join([checks(found), table(found), decisive(found)]))


if __name__ == "__main__":
    main()
