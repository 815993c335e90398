"""The trial: fit what the claims need, judge them one by one, write the page and the figures."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatewise import backends
from gatewise.study import page
from gatewise.study.trial import accuracy, cost, inside
from gatewise.study.trial.plan import LONG, SHORT, Scale, everything
from gatewise.study.trial.runs import Report, Runs
from gatewise.study.trial.section import Section
from gatewise.tasks.claim import LOCK, claimed
from gatewise.tasks.errors import InputError, need
from gatewise.tasks.folder import read_json, write_bytes, write_json

RESULTS, PAGE, MARK = "results.json", "index.html", "trial.json"
CLAIMS: list[Callable[[Runs], Section | list[Section]]] = [
    cost.counts,
    accuracy.about_as_well,
    accuracy.large_data,
    accuracy.long_dependencies,
    accuracy.the_figure,
    inside.at_start,
    inside.after_training,
    inside.clipping,
    inside.what_is_slow,
    inside.forget_and_select,
    accuracy.gates_serve,
    cost.cheaper,
    cost.easier,
    accuracy.distance,
]


def trial(
    directory: str | Path,
    *,
    full: bool = False,
    report: Report | None = None,
    processes: int | None = None,
    scale: Scale | None = None,
) -> dict[str, Any]:
    """Put the claims on trial; a second call with the same directory goes on where the first one stopped.

    Args:
        directory: gets ``index.html``, ``results.json`` and ``fits/``. full: the long version, for hours.
        report: told of every finished fit. processes: trained side by side; the number of cores when None.
        scale: how much is run, instead of the short or the long version.

    Returns:
        What ``results.json`` holds.

    Raises:
        InputError: for a directory that cannot be written, holds something else, or a trial of another size.
    """
    for module in ("scipy", "sklearn", "plotly", "lightning_fabric"):
        need(module, "study")
    chosen = scale or (LONG if full else SHORT)
    folder = _folder(directory, chosen)
    with claimed(folder):
        return _tried(folder, chosen, report, processes)


def _tried(folder: Path, chosen: Scale, report: Report | None, processes: int | None) -> dict[str, Any]:
    write_json(folder / MARK, _plain(chosen))
    started = time.perf_counter()
    runs = Runs(folder, chosen, report, processes)
    runs.tuned(everything(chosen))
    sections: list[Section] = []
    for claim in CLAIMS:
        found = claim(runs)
        sections += found if isinstance(found, list) else [found]
    results = {
        "gatewise": importlib.metadata.version("gatewise"),
        "scale": vars(chosen),
        "machine": _machine(),
        "seconds": time.perf_counter() - started,
        "fits": len(runs.fits),
        "training_seconds": sum(sum(fit.seconds) for fit in runs.fits.values()),
        "claims": [section.as_json() for section in sections],
    }
    write_json(folder / RESULTS, results)
    results = read_json(folder / RESULTS)  # the page shows what the file holds
    write_bytes(folder / PAGE, render(results).encode())
    return results


def _folder(directory: str | Path, scale: Scale) -> Path:
    folder = Path(directory)
    if folder.is_file():
        raise InputError(f"output directory {folder} is a file")
    held = {path.name for path in folder.iterdir()} - {LOCK} if folder.is_dir() else set()
    if held and not held & {"fits", MARK}:
        raise InputError(f"output directory {folder} holds something else than a trial; choose another directory")
    mark = folder / MARK
    if mark.is_file() and read_json(mark) != _plain(scale):
        raise InputError(f"output directory {folder} holds a trial of another size ({read_json(mark).get('name')})")
    return folder


def _plain(scale: Scale) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(scale).items()}


def _machine() -> dict[str, Any]:
    report = backends.report()
    return {name: report[name] for name in ("host", "tier", "threads", "python", "torch")}


def render(results: dict[str, Any]) -> str:
    """The page of a trial, from what ``results.json`` holds."""
    claims, scale = results["claims"], results["scale"]
    blocks = [
        page.heading("The gated recurrent unit on trial", ""),
        page.text(
            f"What lecture notes and papers say of the GRU beside the LSTM and the plain RNN, tried out by Gatewise "
            f"{results['gatewise']}: {scale['seeds']} seeds, {results['fits']} trainings of together "
            f"{results['training_seconds']:.0f} seconds. "
            "A claim holds, fails or is undecided by a rule that was fixed beforehand; a difference that is not "
            "significant does not make two things equal. Intervals in brackets are 95 %; bands in plots reach from the "
            "lowest seed to the highest."
        ),
        page.text(f"Machine: {', '.join(f'{k} {v}' for k, v in results['machine'].items() if v)}.", soft=True),
        page.table(["claim", "what is said", "verdict"], [[c["id"], c["claim"], c["verdict"]] for c in claims]),
    ]
    for claim in claims:
        blocks += [
            page.heading(f"{claim['id']}  {claim['claim']}", claim["id"], claim["verdict"]),
            page.text(claim["sentence"]),
            page.text(f"What was run: {claim['how']}", soft=True),
            page.text(f"Rule: {claim['rule']}", soft=True),
            *claim["blocks"],
        ]
    blocks += [
        page.heading("What is not on trial", "rest"),
        page.text(
            "C8, which part of an LSTM corresponds to which of a GRU (z to the forget gate, 1 − z to the input gate, "
            "the "
            "state h to the cell state c, the candidate to the hidden state), is a way of speaking; C5 and U6 test "
            "what "
            "follows from it."
        ),
    ]
    return page.render("The gated recurrent unit on trial", blocks)
