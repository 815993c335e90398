"""The page of a trial, from what ``results.json`` holds."""

from __future__ import annotations

from typing import Any

from gatewise.study import page
from gatewise.study.page import Block

TITLE = "The gated recurrent unit on trial"
BASIS = {
    "margin": "Margin",
    "budget": "Budget",
    "tuning": "Tuning",
    "guessing": "Level of guessing",
    "change": "What would change it",
}


def render(results: dict[str, Any]) -> str:
    """The page as HTML."""
    blocks = [*_front(results), *_checks(results["checks"])]
    for claim in results["claims"]:
        blocks += _claim(claim)
    blocks += [
        page.heading("What is not on trial", "rest"),
        page.text(
            "C8, which part of an LSTM corresponds to which of a GRU (z to the forget gate, 1 − z to the input gate, "
            "the state h to the cell state c, the candidate to the hidden state), is a way of speaking; C5 and U6 test "
            "what follows from it."
        ),
    ]
    return page.render(TITLE, blocks)


def _front(results: dict[str, Any]) -> list[Block]:
    claims, scale = results["claims"], results["scale"]
    part = "" if results["only"] is None else f" A part of the trial: {', '.join(results['only'])}."
    rows = [[c["id"], c["claim"], c["verdict"], c["agreement"]] for c in claims]
    columns = 3 if scale["name"] == "full" else 4
    header = ["claim", "what is said", "verdict", "beside the full trial"]
    return [
        page.heading(TITLE, ""),
        page.text(
            f"What lecture notes and papers say of the GRU beside the LSTM and the plain RNN, tried out by Gatewise "
            f"{results['gatewise']} ({scale['name']} trial): {scale['seeds']} seeds, {results['fits']} trainings of "
            f"together {results['training_seconds']:.0f} seconds.{part} A claim holds, fails or is undecided by a rule "
            "that was fixed beforehand; a difference that is not significant does not make two things equal. Too "
            "short to tell is the verdict where it would rest on a network that has not learnt its task in the "
            "budget. Intervals in brackets are 95 %; bands in plots reach from the lowest seed to the highest."
        ),
        page.text(f"Machine: {', '.join(f'{k} {v}' for k, v in results['machine'].items() if v)}.", soft=True),
        page.table(header[:columns], [row[:columns] for row in rows]),
    ]


def _checks(checks: list[dict[str, Any]]) -> list[Block]:
    """The checks of the instrument; nothing where none was asked for."""
    if not checks:
        return []
    blocks = [
        page.heading("Checks of the instrument", "checks"),
        page.text("Results that are known, found again before any verdict: where one is not, the trial is at fault."),
        page.table(["check", "what is known", "outcome"], [[c["id"], c["known"], c["outcome"]] for c in checks]),
    ]
    for check in checks:
        blocks += [
            page.heading(f"Check: {check['id']}", None, check["outcome"]),
            page.text(check["sentence"]),
            page.text(f"What was run: {check['how']}", soft=True),
            page.text(f"Rule: {check['rule']}", soft=True),
            *check["blocks"],
        ]
    return blocks


def _claim(claim: dict[str, Any]) -> list[Block]:
    rows = [["Rule", claim["rule"]], *([title, claim["basis"][name]] for name, title in BASIS.items())]
    return [
        page.heading(f"{claim['id']}  {claim['claim']}", claim["id"], claim["verdict"]),
        page.text(claim["sentence"]),
        page.text(f"What was run: {claim['how']}", soft=True),
        page.table(["what decides", "here"], rows),
        *claim["blocks"],
    ]
