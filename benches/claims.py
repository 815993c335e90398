"""The verdicts of a trial as the table of ``docs/comparison.md``: ``python -m benches.claims trial/results.json``.

Keeps the claims, rules, sentences and figures of the trial in ``docs/trial.json``, without its plots, and prints the
table that the page holds; a test checks that the page and the file agree.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gatewise.tasks.folder import write_json

KEPT = ("id", "claim", "how", "rule", "verdict", "sentence", "figures")


def short(results: dict[str, Any]) -> dict[str, Any]:
    """A trial without what is only drawn."""
    claims = [{name: claim[name] for name in KEPT} for claim in results["claims"]]
    return {**{name: value for name, value in results.items() if name != "claims"}, "claims": claims}


def table(results: dict[str, Any]) -> str:
    """The verdicts as Markdown."""
    rows = [f"| {c['id']} | {c['claim']} | **{c['verdict']}** | {c['sentence']} |" for c in results["claims"]]
    return "\n".join(["| | Claim | Verdict | What came out |", "|---|---|---|---|", *rows])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.claims", description=__doc__.split("\n\n")[0])
    parser.add_argument("results", type=Path, help="results.json of a trial")
    parser.add_argument("--json", type=Path, default=Path("docs/trial.json"), help="where the figures are kept")
    asked = parser.parse_args(arguments)
    found = short(json.loads(asked.results.read_text()))
    write_json(asked.json, found)
    print(table(found))


if __name__ == "__main__":
    main()
