"""The picture of a forecast: history, what was held out, the forecasts of it, and the forecast beyond the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.figures import save
from gatewise.tasks.forecast.evaluation import Forecasts, HeldOut
from gatewise.tasks.forecast.grid import Series
from gatewise.tasks.forecast.metrics import mase, naive_error, rmsse
from gatewise.tasks.forecast.table import Times, Values

MOST_PANELS = 4
INK, MODEL, BEYOND, NAIVE = "#333333", "#0072B2", "#D55E00", "#999999"  # told apart with any colour vision


def draw(forecaster: Any, path: Path, forecasts: Forecasts) -> None:
    """Draw the first four series and their forecasts into a picture file, one panel each, intervals as bands.

    Raises:
        InputError: without matplotlib.
    """
    save(figure(forecaster, forecasts, MOST_PANELS), path)


def some_of(series: Sequence[Series], ids: Sequence[str] | None, most: int) -> list[Series]:
    """The series of the first names, or of these, with all their targets.

    Raises:
        InputError: for a name that no series has.
    """
    by_name: dict[str, list[Series]] = {}
    for one in series:
        by_name.setdefault(one.unique_id, []).append(one)
    unknown = next((name for name in ids or () if name not in by_name), None)
    if unknown is not None:
        raise InputError(f"ids: there is no series {unknown!r}, expected some of {len(by_name)} that can be forecast")
    return [one for name in list(ids or by_name)[:most] for one in by_name[name]]


def figure(forecaster: Any, forecasts: Forecasts, most: int, history: int | None = None) -> Any:
    """A figure of matplotlib with a panel for each of the first series: history, held-out part and forecast.

    Args:
        forecaster: that made the forecasts. most: panels at most. history: values before the forecast that are drawn;
            by the horizon and the season when None.

    Raises:
        InputError: without matplotlib.
    """
    need("matplotlib")
    from matplotlib.figure import Figure

    chosen = forecasts.series[:most]
    drawn = Figure(figsize=(10, 1.2 + 3.6 * len(chosen)), dpi=130, layout="constrained")
    panels = drawn.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for axes, series, values in zip(panels, chosen, forecasts.values, strict=False):
        _panel(axes, forecaster, series, forecasts.series, values, history)
    panels[-1].set_xlabel(f"date, one value a {chosen[0].frequency.name}")
    return drawn


def _panel(
    axes: Any, forecaster: Any, series: Series, among: Sequence[Series], beyond: Values, history: int | None
) -> None:
    horizon, end = forecaster.horizon, len(series.values)
    times = series.times(end, end + horizon)
    first = max(0, end - (horizon + 2 * max(horizon, forecaster.season) if history is None else history))
    axes.plot(series.times(first), series.values[first:], color=INK, lw=1.2, marker=".", ms=3, label="observed")
    title = series.name
    if end - horizon > max(1, first) and not np.isnan(series.values[:-horizon]).all():
        held = forecaster.held_out_of(series, among)
        title = f"{title}  {_held_out(axes, held, forecaster)}".strip()
    axes.plot(times, beyond[:, 0], color=BEYOND, lw=1.8, label="forecast beyond the end")
    levels = forecaster.options.levels
    for k in range(len(levels)):
        said = f"{' and '.join(f'{level:g}' for level in levels)} % interval" if k == 0 else None
        _band(axes, times, beyond[:, 1 + 2 * k : 3 + 2 * k], BEYOND, said)
    if times.dtype.kind == "M":
        _dates(axes)
    axes.axvline(series.times(end - 1, end)[0], color=INK, lw=0.8, ls=":")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylabel(series.target or forecaster.label)
    axes.margins(x=0.01)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.22 * (high - low))  # room for the legend


def _dates(axes: Any) -> None:
    """Dates below an axis that do not run into each other."""
    dates: Any = need("matplotlib.dates")
    places = dates.AutoDateLocator(maxticks=9)
    axes.xaxis.set_major_locator(places)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(places))


def _band(axes: Any, times: Times, ends: Values, color: str, label: str | None = None) -> None:
    """An interval; those of several levels lie on each other and grow darker inwards."""
    axes.fill_between(times, ends[:, 0], ends[:, 1], color=color, alpha=0.16, lw=0, label=label)


def _held_out(axes: Any, held: HeldOut, forecaster: Any) -> str:
    """Draw the held-out horizon with its forecasts; the title that gives their scores."""
    axes.axvspan(held.times[0], held.times[-1], color=MODEL, alpha=0.07, lw=0)
    past, season = held.series.values[: -forecaster.horizon], forecaster.season
    error: Callable[[Values, Values], float] = partial(mase, unit=naive_error(past, season))
    if forecaster.metric == "RMSSE":
        error = partial(rmsse, history=past, season=season)
    scores = {name: error(held.truth, forecast) for name, forecast in held.forecasts.items()}
    model = forecaster.cell.name
    for level in forecaster.options.levels:
        ends = np.stack([held.forecasts[f"{model}-{end}-{level:g}"] for end in ("lo", "hi")], -1)
        _band(axes, held.times, ends, MODEL)
    axes.plot(held.times, held.forecasts[model], color=MODEL, lw=1.8, label=f"{model} on the held-out horizon")
    naive = "seasonal naive" if "seasonal naive" in held.forecasts else "last value"
    axes.plot(held.times, held.forecasts[naive], color=NAIVE, lw=1.2, ls="--", label=naive)
    return f"held out (shaded): {forecaster.metric} {model} {scores[model]:.2f}, {naive} {scores[naive]:.2f}"
