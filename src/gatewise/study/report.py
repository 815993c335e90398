"""One page about a trained model: what it is, how it trained, its scores, what its gates did, how far gradients
reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gatewise import cells
from gatewise.compiler import Cell
from gatewise.study import page
from gatewise.study.diagram import diagram
from gatewise.study.gradients import BothWaysError, of_model, saliency
from gatewise.study.page import Block
from gatewise.study.tracing import Traced, nth, traced
from gatewise.tasks.base import Task
from gatewise.tasks.folder import read_json, whole, write_bytes, write_json
from gatewise.tasks.registry import load
from gatewise.tasks.weights import refuse_quantised

PAGE, FIGURES = "report.html", "report.json"
MOST_STEPS, MOST_UNITS = 300, 96


def report(directory: str | Path, output: str | Path | None = None, data: Any = None) -> dict[str, Any]:
    """Write ``report.html`` and ``report.json`` about the model in a directory.

    Args:
        directory: of a fitted model, of whatever task. output: where the two files go, over earlier ones; the model's
            directory when None. data: what the traces are of, as for the model's ``predict``.

    Returns:
        What ``report.json`` holds.

    Raises:
        InputError: for a directory without a model, data that do not fit, or one that cannot be written.
    """
    task = load(directory)
    refuse_quantised(task.fitted(), "report")
    blocks = [
        *_what(task, Path(directory)),
        *_training(task),
        *_scores(task),
        *_gates(task, data),
        *_gradients(task, data),
    ]
    folder = Path(directory if output is None else output)
    with whole(folder, locked=False):
        write_json(folder / FIGURES, {"title": _title(task), "blocks": blocks})
        results = read_json(folder / FIGURES)  # the page shows what the file holds
        write_bytes(folder / PAGE, page.render(results["title"], results["blocks"]).encode())
    return results


def _title(task: Task) -> str:
    return f"{task.name} with {task.cell.name}"


def _what(task: Task, directory: Path) -> list[Block]:
    tensors: list[list[Any]] = [
        [name, " × ".join(map(str, p.shape)), p.numel()] for name, p in task.fitted().named_parameters()
    ]
    total = sum(p.numel() for p in task.fitted().parameters())
    options = [[name, _plain(value)] for name, value in task.options.as_json().items() if value is not None]
    return [
        page.heading(_title(task), ""),
        page.text(f"The model in `{directory}`: {total:,} parameters."),
        page.heading("The cell", "cell"),
        page.text(_source(task.cell)),
        page.drawing(diagram(task.cell)),
        page.heading("Options and sizes", "sizes"),
        page.table(["option", "value"], options),
        page.table(["tensor", "shape", "parameters"], [*tensors, ["all", "", total]]),
    ]


def _source(cell: Cell) -> str:
    """Where a cell is from: a saved model holds its equations alone, so a built-in one is found by them."""
    built_in = next((one for one in map(cells.get, cells.names()) if one == cell), cell)
    return built_in.source.split("\n\n")[0] or "A cell of one's own."


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else str(value)


def _training(task: Task) -> list[Block]:
    epochs = task.history.epochs
    if not epochs:
        return []
    numbers = [float(e.epoch) for e in epochs]
    curves = {"training loss": [e.loss for e in epochs], f"validation {task.metric}": [e.value for e in epochs]}
    best, kept = task.history.best, task.history.kept
    blocks = [
        page.heading("Training", "training"),
        page.text(
            f"{len(epochs)} epochs, {task.history.steps:,} steps, {sum(e.seconds for e in epochs):.1f} seconds "
            f"({1e3 * task.history.seconds_per_step:.2f} ms a step); best epoch {best.epoch}, "
            f"weights of epoch {kept.epoch}."
        ),
    ]
    for name, values in curves.items():
        one = {name: {"x": numbers, "y": values}}
        blocks.append(page.plot(page.lines(one, "epoch", name, height=280), f"{name} by epoch"))
    rows = [[e.epoch, e.steps, e.loss, e.value, e.seconds] for e in epochs]
    header = ["epoch", "steps", "training loss", f"validation {task.metric}", "seconds"]
    return [*blocks, page.table(header, rows if len(rows) <= 40 else [*rows[:20], *rows[-20:]])]


def _scores(task: Task) -> list[Block]:
    if not task.scores:
        return []
    metrics = list(next(iter(task.scores.values())))
    rows = [[name, *(values.get(m) for m in metrics)] for name, values in task.scores.items()]
    words = "On held-out data, beside naive answers."
    return [page.heading("Scores", "scores"), page.text(words), page.table(["by", *metrics], rows)]


def _gates(task: Task, data: Any) -> list[Block]:
    trace = traced(task, data)
    steps, units = len(trace.labels), len(trace.units)
    every, units_shown = (
        -(-steps // MOST_STEPS),
        np.unique(np.linspace(0, units - 1, min(units, MOST_UNITS)).astype(int)),
    )
    shown = np.arange(0, steps, every)
    order = "the slowest unit" if trace.keeper is None else f"the unit with the longest half-life by {trace.keeper}"
    words = f"The first recurrent layer, forwards: {units} units over {steps} steps, {order} on top."
    if every > 1 or len(units_shown) < units:
        words += f" Every {nth(every)} step and {len(units_shown)} of the units are drawn."
    labels = [trace.labels[t] for t in shown]
    blocks = [page.heading("What the gates did", "gates"), page.text(words)]
    if trace.series is not None:
        one = {"input": {"x": [float(t) for t in shown], "y": [float(trace.series[t]) for t in shown]}}
        blocks.append(page.plot(page.over_positions(one, labels, "input", every), "the input"))
    for name, values in trace.gates.items():
        grid = values[shown][:, units_shown].T.round(4)
        signed = float(values.min()) < 0
        blocks.append(page.plot(page.heat_map(grid.tolist(), labels, f"gate {name}", signed, every), f"gate {name}"))
    change = {"‖Δh‖ / ‖h‖": {"x": [float(t) for t in shown], "y": trace.change[shown].round(6).tolist()}}
    words = "‖Δh‖ / ‖h‖ per step"
    blocks.append(page.plot(page.over_positions(change, labels, words, every), "change of the state"))
    return [*blocks, *_half_lives(trace)]


def _half_lives(trace: Traced) -> list[Block]:
    if trace.keeper is None:
        return []
    places = {"longest": 0, "upper quarter": len(trace.units) // 4, "median": len(trace.units) // 2, "shortest": -1}
    rows = [[name, int(trace.units[k]), float(trace.half_life[k])] for name, k in places.items()]
    return [page.table([f"half-life by {trace.keeper}", "unit", "steps"], rows)]


def _gradients(task: Task, data: Any) -> list[Block]:
    blocks = [page.heading("How far gradients reach", "gradients")]
    try:
        flow, _ = of_model(task, data)
    except BothWaysError as error:
        blocks.append(page.text(f"Not measured: {error}."))
    else:
        floor = [max(v, 1e-30) for v in flow.mean]
        curve = {flow.label: {"x": [float(k) for k in range(len(floor))], "y": floor}}
        figure = page.lines(curve, "distance T − t (steps)", "‖∂h_T/∂s_t‖ / √H", log_y=True)
        blocks.append(page.text(f"A step multiplies the gradient by {flow.factor:.3g}; 1 at distance 0 is all of it."))
        blocks.append(page.plot(figure, "gradient over distance"))
    salient = saliency(task, data)
    places = {"x": [float(k) for k in range(len(salient.values))], "y": salient.values}
    figure = page.over_positions({salient.output: places}, salient.labels, "‖∂y/∂x_t‖")
    return [*blocks, page.text(f"Saliency: how much each position matters to {salient.output}."), page.plot(figure)]
