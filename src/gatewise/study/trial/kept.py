"""The verdicts of the full trial that is kept with Gatewise, beside which a short one is read."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from gatewise.study.trial.plan import LONG

KEPT = "full.json"
"""Written by ``python -m benches.claims`` from the results of a full trial; there may be none yet."""


def verdicts() -> dict[str, str]:
    """Claim → verdict of the full trial; empty where none is kept."""
    file = resources.files("gatewise.study.trial") / KEPT
    if not file.is_file():
        return {}
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["verdicts"]
    return found


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a full trial: its verdicts, and what they were made with."""
    made = {name: results[name] for name in ("gatewise", "machine", "seconds", "fits")}
    return {**made, "verdicts": {claim["id"]: claim["verdict"] for claim in results["claims"]}}


def is_full(results: dict[str, Any]) -> bool:
    """Whether these are the results of a whole trial at full length."""
    return bool(results["scale"]["name"] == LONG.name and results.get("only") is None)


def agreement(claim: str, verdict: str, full: dict[str, str]) -> str:
    """Whether the full trial agreed with a verdict, in words."""
    if claim not in full:
        return "no full trial is kept for this claim"
    return "the full trial agreed" if full[claim] == verdict else f"the full trial says: {full[claim]}"
