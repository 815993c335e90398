"""The trial: fit what checks and claims need, judge them one by one, write the page and the figures."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatewise import backends
from gatewise.study.trial import checks
from gatewise.study.trial.claims import Claim, chosen, needed
from gatewise.study.trial.kept import agreement, verdicts
from gatewise.study.trial.plan import LONG, SHORT, Scale
from gatewise.study.trial.runs import Report, Runs
from gatewise.study.trial.shown import render
from gatewise.tasks.claim import LOCK, claimed
from gatewise.tasks.errors import InputError, need
from gatewise.tasks.folder import read_json, write_bytes, write_json

RESULTS, PAGE, MARK = "results.json", "index.html", "trial.json"


def trial(
    directory: str | Path,
    *,
    full: bool = False,
    only: Sequence[str] | None = None,
    music: str | Path | None = None,
    report: Report | None = None,
    processes: int | None = None,
    scale: Scale | None = None,
) -> dict[str, Any]:
    """Put the claims on trial; a second call with the same directory goes on where the first one stopped.

    Args:
        directory: gets ``index.html``, ``results.json`` and ``fits/``. full: the long version, up to two hours on two
            cores. only: the claims to judge, such as ``["C9", "C6"]``, and ``"checks"`` for those of the instrument;
            everything when None. music: what ``python -m benches.chung2014`` measured, for the check on music.
        report: told of every finished fit. processes: trained side by side; the number of cores when None.
        scale: how much is run, instead of the short or the long version.

    Returns:
        What ``results.json`` holds.

    Raises:
        InputError: for a directory that cannot be written, holds something else, or a trial of another size; for a
            name in ``only`` that is none of a claim; for ``music`` that holds something else.
    """
    for module in ("scipy", "sklearn", "plotly", "lightning_fabric"):
        need(module, "study")
    with_checks, claims = chosen(only)
    heard = None if music is None else Path(music)
    checks.same_on_music(heard)  # a wrong file is to be found before anything is trained
    scale = scale or (LONG if full else SHORT)
    folder = _folder(directory, scale)
    with claimed(folder):
        write_json(folder / MARK, _plain(scale))
        started, runs = time.perf_counter(), Runs(folder, scale, report, processes)
        runs.plan(needed(claims, scale))
        results = _tried(runs, checked(runs, heard) if with_checks else [], claims)
        results |= {"only": None if only is None else list(only), "seconds": time.perf_counter() - started}
        write_json(folder / RESULTS, results)
        results = read_json(folder / RESULTS)  # the page shows what the file holds
        write_bytes(folder / PAGE, render(results).encode())
    return results


def checked(runs: Runs, music: Path | None) -> list[checks.Check]:
    """The checks of the instrument, before any claim."""
    runs.tuned(checks.needs(runs.scale), runs.scale.check_seeds)
    return checks.checked(runs, music)


def _tried(runs: Runs, found: list[checks.Check], claims: list[Claim]) -> dict[str, Any]:
    runs.tuned(needed(claims, runs.scale))
    full = verdicts()
    sections = [section for claim in claims for section in claim.sections(runs)]
    return {
        "gatewise": importlib.metadata.version("gatewise"),
        "scale": vars(runs.scale),
        "machine": _machine(),
        "fits": len(runs.fits),
        "training_seconds": sum(sum(fit.seconds) for fit in runs.fits.values()),
        "checks": [check.as_json() for check in found],
        "claims": [{**s.as_json(), "agreement": agreement(s.id, s.verdict, full)} for s in sections],
    }


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
