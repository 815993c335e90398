"""The command line: parses, calls, prints. Exit codes: 0 done, 2 bad input (one line on standard error), 130 Ctrl-C."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional, cast

from gatewise.tasks.errors import InputError, need

try:
    need("typer")
    need("rich")
    import typer
    from rich.console import Console
    from rich.table import Table

    from gatewise.tasks.base import Scores, cell_of, load, task_named
    from gatewise.tasks.folder import CONFIG, WEIGHTS, dumps, nothing_on_error, writable, write_bytes
except InputError as error:
    print(f"gatewise: {error}", file=sys.stderr)
    raise SystemExit(2) from None
except KeyboardInterrupt:
    print("gatewise: interrupted", file=sys.stderr)
    raise SystemExit(130) from None

MOST_ROWS = 60
app = typer.Typer(
    help="Gated recurrent networks: train, predict, score, compare.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
fit_app = typer.Typer(help="Train a model for a task and score it on held-out data.", no_args_is_help=True)
compare_app = typer.Typer(help="Compare cells on a task, at equal size and at equal parameters.", no_args_is_help=True)

# `Optional` and not `| None`: typer evaluates these at run time.
DataArgument = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(help="CSV with unique_id, ds, y or two columns: time, value.", show_default="weekly CO₂, embedded"),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a fitted model.")]
Horizon = Annotated[Optional[int], typer.Option(help="Steps to forecast.", show_default="one season")]  # noqa: UP045
Season = Annotated[Optional[int], typer.Option(help="Steps in a season.", show_default="from the frequency")]  # noqa: UP045


def _directory(text: Any) -> Path:
    """A directory from the command line, whose name must not be empty: Path would take it for the current one."""
    if not str(text):
        raise typer.BadParameter("expected the name of a directory, got ''")
    return Path(text)


Integer = Optional[int]  # noqa: UP045
Text = Optional[str]  # noqa: UP045
Real = Optional[float]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Backend = Annotated[Text, typer.Option(help="auto, cpu or eager.", show_default="auto")]


def main() -> None:
    """Run the command line; every error of the input is one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        code = _fail(str(error))
    except typer.exceptions.TyperException as error:
        message = error.format_message()
        code = _fail(message + _came(error, message)) if message else 2  # without one, help was printed
    except (KeyboardInterrupt, typer.Abort):
        print("gatewise: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str) -> int:
    print(f"gatewise: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def _came(error: Exception, message: str) -> str:
    """What an option of the wrong type was given, where the message does not say."""
    names = getattr(getattr(error, "param", None), "opts", ())
    split = [part for word in sys.argv[1:] for part in (word.split("=", 1) if word.startswith("--") else [word])]
    values = [value for name, value in itertools.pairwise(split) if name in names]
    return f", got {values[-1]!r}" if values and repr(values[-1]) not in message else ""


@fit_app.command("forecast")
def fit_forecast(
    data: DataArgument = None,
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", parser=_directory, help="Directory of the run; must be new."),
    ],
    horizon: Horizon = None,
    season: Season = None,
    cell: Annotated[Text, typer.Option(help="Cell; see `gatewise cells`.", show_default="gru")] = None,
    hidden_size: Annotated[Integer, typer.Option(show_default="64")] = None,
    num_layers: Annotated[Integer, typer.Option(show_default="1")] = None,
    dropout: Annotated[Real, typer.Option(help="Between layers.", show_default="0")] = None,
    epochs: Annotated[Integer, typer.Option(help="Of 25 steps.", show_default="16")] = None,
    max_steps: Annotated[Integer, typer.Option(help="Steps in all.", show_default="no limit")] = None,
    learning_rate: Annotated[Real, typer.Option(help="At its peak.", show_default="0.003")] = None,
    patience: Annotated[Integer, typer.Option(help="Epochs without improvement.", show_default="8")] = None,
    seed: Annotated[Integer, typer.Option(help="Same seed, same result.", show_default="0")] = None,
    label: Annotated[Text, typer.Option(help="What the values are, with unit.", show_default="column name")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Train a forecaster of time series."""
    options = _given(locals(), without={"data", "output", "resume", "backend", "json"})
    _fit("forecast", data, output, resume, backend, json, options)


def _given(arguments: dict[str, Any], without: set[str]) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in arguments.items() if value is not None and name not in without}


def _fit(
    name: str, data: Path | None, output: Path, resume: bool, backend: str | None, json: bool, options: dict[str, Any]
) -> None:
    from gatewise.tasks.progress import Progress

    kind = cast(Any, task_named(name))
    try:
        with _backend(backend):
            if resume:
                task = kind.resume(output, data, report=Progress, **options)
            else:
                task = kind(**options).fit(data, directory=output, report=Progress)
    except KeyboardInterrupt:
        print(f"gatewise: interrupted; {_state(output)}", file=sys.stderr)
        raise typer.Exit(130) from None
    best = task.history.best
    if json:
        summary = {"directory": str(output), "task": name, "cell": task.cell.name, "epochs": len(task.history.epochs)}
        print(dumps({**summary, "best_epoch": best.epoch, "scores": task.scores}), end="")
        return
    _print_scores(task.scores)
    print(f"{output}: {len(task.history.epochs)} epochs, best {best.epoch} (validation {task.metric} {best.value:.3f})")


def _state(output: Path) -> str:
    """What an interrupted training left."""
    if (output / WEIGHTS).exists():
        return f"{output} keeps the best model so far, --resume goes on"
    if (output / CONFIG).exists():
        return f"{output} holds no model yet, since no epoch was finished; --resume starts it anew"
    return "nothing was written"


@app.command()
def predict(
    model: ModelArgument,
    data: DataArgument = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            parser=_directory,
            help="Where table and picture go.",
            show_default="the model's",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Forecast beyond the end of the data: a table, forecast.csv and forecast.png."""
    from gatewise.tasks.forecast.forecaster import Forecaster
    from gatewise.tasks.forecast.picture import draw
    from gatewise.tasks.forecast.table import rows, to_csv

    task = cast(Forecaster, load(model))
    table = task.predict_table(data)
    folder = model if output is None else output
    with nothing_on_error(folder):
        writable(folder)
        draw(task, folder / "forecast.png", data)
        write_bytes(folder / "forecast.csv", to_csv(table).encode())
    records = rows(table)
    if json:
        keys = ("unique_id", "ds", "y")
        values = [dict(zip(keys, record, strict=True)) for record in records]
        print(dumps({"forecasts": values, "picture": str(folder / "forecast.png")}), end="")
        return
    shown = [(name, time, f"{value:.6g}") for name, time, value in records[:MOST_ROWS]]
    _print_table(["unique_id", "ds", task.label], shown)
    if len(records) > MOST_ROWS:
        print(f"… {len(records) - MOST_ROWS} more rows in {folder / 'forecast.csv'}")
    print(f"{folder / 'forecast.csv'}\n{folder / 'forecast.png'}")


@app.command()
def score(model: ModelArgument, data: DataArgument = None, json: Json = False) -> None:
    """Score a model on the held-out end of its data, or of other data, beside naive baselines."""
    scores = load(model).score(data)
    if json:
        print(dumps({"scores": scores}), end="")
    else:
        _print_scores(scores)


@compare_app.command("forecast")
def compare_forecast(
    data: DataArgument = None,
    cells: Annotated[str, typer.Option(help="Names, the reference first.")] = "gru,lstm,rnn",
    hidden_size: Annotated[int, typer.Option(help="Of the reference.")] = 64,
    seeds: Annotated[int, typer.Option(help="Fits of each network.")] = 3,
    max_steps: Annotated[int, typer.Option(help="Training steps of a fit.")] = 400,
    horizon: Horizon = None,
    season: Season = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", parser=_directory, help="Where compare.json and compare.png go."),
    ] = Path("runs/compare"),
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Compare cells as forecasters: parameters, score, time per training step."""
    options = _given({"max_steps": max_steps, "horizon": horizon, "season": season}, without=set())
    names = [name.strip() for name in cells.split(",")]
    _compare("forecast", data, names, hidden_size, seeds, output, backend, json, options)


def _compare(
    task: str,
    data: Path | None,
    names: list[str],
    hidden_size: int,
    seeds: int,
    output: Path,
    backend: str | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    from gatewise.study.compare import compare
    from gatewise.study.picture import draw

    chosen = [cell_of(name) for name in names]
    console = Console(stderr=True)
    with _backend(backend), console.status(f"comparing {', '.join(names)}") as status:

        def report(what: str, done: int, total: int) -> None:
            line = f"fit {done + 1} of {total}: {what}"
            status.update(line) if console.is_terminal else print(line, file=sys.stderr)

        result = compare(
            task, data, cells=chosen, hidden_size=hidden_size, seeds=seeds, directory=output, report=report, **options
        )
    draw(result, output / "compare.png")
    if json:
        print(dumps(result.as_json()), end="")
        return
    labels = {"size": "equal size", "parameters": "equal parameters", "both": "reference"}
    rows = [
        (
            e.cell,
            labels[e.sizing],
            str(e.hidden_size),
            f"{e.parameters:,}",
            f"{e.mean:.3f} ± {e.spread:.3f}",
            f"{1e3 * e.seconds_per_step:.1f}",
        )
        for e in result.entries
    ]
    rows += [(name, "baseline", "", "", f"{value:.3f}", "") for name, value in result.baselines.items()]
    _print_table(["cell", "sizing", "hidden size", "parameters", f"{result.metric} (lower is better)", "ms/step"], rows)
    print(f"{output / 'compare.json'}\n{output / 'compare.png'}")


app.add_typer(fit_app, name="fit")
app.add_typer(compare_app, name="compare")


@app.command()
def info(json: Json = False) -> None:
    """Versions, instruction tier, threads, backends and why, cache."""
    from gatewise import backends

    report = backends.report()
    if json:
        print(dumps(report), end="")
        return
    for name, value in report.items():
        _print_item(name, value)


def _print_item(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _print_item(f"{name}.{key}", item)
    else:
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        print(f"{name:<18} {text}")


@app.command()
def cells(
    name: Annotated[Text, typer.Argument(metavar="NAME", help="One cell.", show_default="all")] = None,
    input_size: Annotated[int, typer.Option(help="Width of x, for the parameter count.", min=1)] = 64,
    hidden_size: Annotated[int, typer.Option(help="Width of the state, for the parameter count.", min=1)] = 64,
    json: Json = False,
) -> None:
    """The built-in cells: equations, source, parameter count."""
    from gatewise.cells import names

    chosen = [cell_of(name)] if name else [cell_of(one) for one in names()]
    records = [
        {
            "name": cell.name,
            "source": cell.source,
            "equations": cell.equations().splitlines(),
            "parameters": cell.parameter_count(input_size, hidden_size),
        }
        for cell in chosen
    ]
    if json:
        print(dumps(records), end="")
    elif name:
        print(f"{chosen[0].source}\n\n{chosen[0].equations()}\n")
        print(f"{records[0]['parameters']:,} parameters at input size {input_size} and hidden size {hidden_size}")
    else:
        rows = [(str(r["name"]), f"{r['parameters']:,}", str(r["source"])) for r in records]
        _print_table(["cell", f"parameters at {input_size}, {hidden_size}", "source"], rows)


def _version(asked: bool) -> None:
    if asked:
        print(importlib.metadata.version("gatewise"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None: ...


@contextlib.contextmanager
def _backend(name: str | None) -> Iterator[None]:
    """Force a backend where one was asked for."""
    from gatewise import backends

    if name is None:
        yield
        return
    if name not in backends.NAMES:
        raise InputError(f"backend must be one of {', '.join(backends.NAMES)}, got {name!r}")
    with backends.backend(name):
        yield


def _print_scores(scores: Scores) -> None:
    metrics = list(next(iter(scores.values())))
    rows = [(name, *(f"{values[m]:.3f}" for m in metrics)) for name, values in scores.items()]
    _print_table(["held-out horizon", *metrics], rows)


def _print_table(header: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    numeric = [bool(rows) and row.replace(",", "").lstrip("-")[:1].isdigit() for row in rows[0]]
    filled = [any(column) for column in zip(*rows, strict=True)]  # a column without any entry is left out
    for name, right in itertools.compress(zip(header, numeric, strict=True), filled):
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        table.add_row(*itertools.compress(row, filled))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
