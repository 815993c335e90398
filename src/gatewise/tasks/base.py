"""The one protocol of all applications: fit, predict, score, save, load, resume.

A saved model is a directory: ``config.json`` (the task, its options, the cell's canonical text), ``model.safetensors``
(the best weights), ``metrics.json`` (training history and scores) and whatever else the task needs to predict.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray
from torch import nn

from gatewise import cells
from gatewise.compiler import Cell, CellError, parse
from gatewise.tasks.checks import check_choice, check_integer
from gatewise.tasks.claim import LOCK
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    METRICS_CSV,
    WEIGHTS,
    check_sha256,
    new_run,
    old_run,
    read_json,
    read_tensors,
    remove,
    sha256,
    whole,
    write_json,
    write_tensors,
)
from gatewise.tasks.outcome import Scores as Scores  # tasks take it from here
from gatewise.tasks.outcome import entry, read_metrics
from gatewise.tasks.own_cells import imported
from gatewise.tasks.training import PRECISIONS, History, Machines, MakeReporter, Objective, Schedule, train

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT = 1
MOST_DEVICES = 1024
TASKS = {"forecast": "gatewise.tasks.forecast.forecaster:Forecaster"}
TASKS |= {"adding": "gatewise.tasks.exercises:Adding", "copy": "gatewise.tasks.exercises:Copy"}
TASKS |= {"digits": "gatewise.tasks.exercises:Digits", "mackey_glass": "gatewise.tasks.exercises:MackeyGlass"}
TASKS |= {"translate": "gatewise.tasks.translate.translator:Translator"}


class Task(ABC):
    """An application: subclasses say how to read data, build the network, predict and score.

    After ``fit``, ``resume`` or ``load``: ``module`` is the network in evaluation mode, ``history`` its training,
    ``scores`` the metrics on held-out data beside naive baselines.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    """The figure of ``scores`` that counts most."""
    higher_is_better: ClassVar[bool] = False
    size_multiple: ClassVar[int] = 1
    """``hidden_size`` must be a multiple of it."""
    pass_name: ClassVar[str] = "forward"
    """What a pass over new data is, for its time: see ``sample_pass``."""
    data_files: ClassVar[tuple[str, ...]] = ()
    """What ``save_data`` may write; SHA-256 in ``config.json``."""

    def __init__(self) -> None:
        self.module: nn.Module | None = None
        self.history = History()
        self.scores: Scores = {}
        self.precision = PRECISIONS[0]

    # What a task says about itself

    @property
    @abstractmethod
    def cell(self) -> Cell: ...

    @property
    @abstractmethod
    def seed(self) -> int: ...

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The constructor's arguments as JSON, without the cell."""

    @abstractmethod
    def read(self, data: Any, validation: Any = None) -> None:
        """Read and check training data; None stands for the embedded default, no ``validation`` for a part of them."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained network."""

    @abstractmethod
    def objective(self) -> Objective:
        """What the training loop optimises, for the data read and ``module``."""

    @abstractmethod
    def schedule(self) -> Schedule: ...

    @abstractmethod
    def adopt(self, other: Any) -> None:
        """Use the data that another task of the kind has read."""

    @abstractmethod
    def save_data(self, folder: Path) -> None:
        """Write what prediction needs beside the weights, by the functions of ``folder``, into ``data_files``."""

    @abstractmethod
    def load_data(self, folder: Path) -> None: ...

    @abstractmethod
    def predict(self, data: Any = None) -> Any: ...

    @abstractmethod
    def score(self, data: Any = None) -> Scores: ...

    def positions(self, data: Any = None) -> tuple[list[str], NDArray[Any] | None] | None:
        """What stands at the steps of the first sequence that ``predict(data)`` reads: a label each, and numbers to
        draw above them where there are any; None for step numbers."""
        return None

    def measurable(self) -> bool:
        """Whether the metric is defined for the data read."""
        return True

    def sample_pass(self) -> Callable[[], object] | None:
        """What a fitted model does with some held-out data, to be timed, where it never calls its network as a whole;
        None elsewhere: there the time is that of the network's forward."""
        return None

    def resized(self, cell: Cell, hidden_size: int) -> Self:
        """An unfitted model of another cell and size for the data that this one has read."""
        other = type(self)(**{**self.options(), "cell": cell, "hidden_size": hidden_size})
        other.adopt(self)
        return other

    # The verbs

    def fit(
        self,
        data: Any = None,
        *,
        validation: Any = None,
        directory: str | Path | None = None,
        report: MakeReporter | None = None,
        devices: int = 1,
        precision: str = PRECISIONS[0],
    ) -> Self:
        """Train on data (None: the embedded default) and score on what was held out.

        Args:
            data: see the task. validation: data of the same kind to validate on, for tasks that take it.
            directory: where the run is kept while it trains; must not hold a run yet.
            report: e.g. ``gatewise.tasks.progress.Progress``; silent when absent.
            devices: processes that share every batch; a script that asks for several must start in
                ``if __name__ == "__main__":``.
            precision: ``32-true`` or ``bf16-mixed``, of training; a run is resumed with its own.

        Raises:
            InputError: for bad data or an unusable directory, before anything is computed or written; for a training
                that breaks down. WriteError: when the directory can be written no longer. A model that was reached by
                then stays in the directory, and so does what ``resume`` needs.
        """
        check_integer("devices", devices, 1, MOST_DEVICES)
        check_choice("precision", precision, PRECISIONS)
        before = dict(vars(self))
        try:
            self.precision = precision
            self.read(data, validation)
            with new_run(directory, self._names()) as folder:
                self._untrained()
                if folder is not None:
                    self._save_description(folder)
                return self._train(folder, report, devices, resume=False)
        except Exception:  # what was fitted before stays as it was
            vars(self).update(before)
            raise

    @classmethod
    def resume(
        cls,
        directory: str | Path,
        data: Any = None,
        *,
        validation: Any = None,
        report: MakeReporter | None = None,
        devices: int = 1,
        precision: str | None = None,
        **options: Any,
    ) -> Self:
        """Go on with an interrupted run, with the result of a run that was never interrupted.

        Args:
            directory: of the run. data, validation, precision, options: need not be repeated; when given they must be
                those of the run. report, devices: as for ``fit``.

        Raises:
            InputError: when there is no run, it is in use, or data or an option differ from the run's.
            WriteError: when the directory can be written no longer; the run stays as of its last finished epoch.
        """
        check_integer("devices", devices, 1, MOST_DEVICES)
        folder = Path(directory)
        task = cls._described(folder)
        if precision not in (None, task.precision):
            raise InputError(f"precision: the run in {folder} was started with {task.precision!r}, got {precision!r}")
        task._check_same(folder, data, validation, options)
        if (folder / METRICS).exists() and not any((folder / name).exists() for name in (CHECKPOINT, LOCK)):
            task._load_weights(folder)
            return task
        with old_run(folder):
            if (folder / METRICS).exists():  # it was finished meanwhile, or killed between its last two steps
                task._load_weights(folder)
                remove(folder / CHECKPOINT)
                return task
            task._untrained()
            return task._train(folder, report, devices, resume=True)

    def save(self, directory: str | Path) -> None:
        """Write the fitted model to a directory that holds none yet.

        Raises:
            InputError: when it holds one, is in use or cannot be written; then nothing is left in it.
        """
        module, folder = self.fitted(), Path(directory)
        with whole(directory, self._names()):
            write_tensors(folder / WEIGHTS, module.state_dict())
            self._save_description(folder)
            self._save_metrics(folder)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a saved model, or the best weights so far of an interrupted run.

        Raises:
            InputError: for a missing, truncated or foreign file.
        """
        folder = Path(directory)
        task = cls._described(folder)
        task._load_weights(folder)
        return task

    # How they do it

    def fitted(self) -> nn.Module:
        if self.module is None:
            raise InputError(f"the {self.name} model is not fitted: call fit, resume or load first")
        return self.module

    def _untrained(self) -> None:
        """Build the network from the seed."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.module = self._built()

    def _built(self) -> nn.Module:
        try:
            return self.build()
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "allocate" not in str(error):
                raise
            raise InputError("hidden_size and num_layers ask for a network that does not fit into memory") from None

    def _train(self, folder: Path | None, report: MakeReporter | None, devices: int, resume: bool) -> Self:
        title = f"{self.name} {self.cell.name}"
        how = folder, report, title, resume, Machines(self.precision, devices=devices)
        self.history = train(self.objective(), self.schedule(), self.seed, *how)
        self.scores = self.score()
        if folder is not None:
            self._save_metrics(folder)
            remove(folder / CHECKPOINT)
        return self

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        """The files of a run."""
        return CONFIG, WEIGHTS, CHECKPOINT, METRICS, METRICS_CSV, *cls.data_files

    def _save_description(self, folder: Path) -> None:
        self.save_data(folder)
        description = {
            "format": FORMAT,
            "gatewise": importlib.metadata.version("gatewise"),
            "task": self.name,
            "cell": self.cell.text,
            "options": self.options(),
            "precision": self.precision,
            "sha256": {name: sha256(folder / name) for name in self.data_files if (folder / name).is_file()},
        }
        write_json(folder / CONFIG, description)

    def _save_metrics(self, folder: Path) -> None:
        history = [asdict(epoch) for epoch in self.history.epochs]
        digests = {WEIGHTS: sha256(folder / WEIGHTS)}
        write_json(folder / METRICS, {"scores": self.scores, "history": history, "sha256": digests})

    @classmethod
    def _described(cls, folder: Path) -> Self:
        config = read_json(folder / CONFIG)
        if config.get("format") != FORMAT or config.get("task") != cls.name:
            raise InputError(
                f"{folder / CONFIG} is foreign: expected a {cls.name} model of format {FORMAT}, "
                f"got task {config.get('task')!r} of format {config.get('format')!r}"
            )
        path = folder / CONFIG
        cell, options = entry(config, "cell", str, path), entry(config, "options", dict, path)
        digests = entry({"sha256": {}, **config}, "sha256", dict, path)
        try:
            task = cls(cell=parse(cell), **options)  # type: ignore[call-arg]
        except (TypeError, ValueError, CellError) as error:
            raise InputError(f"{path} is damaged: {str(error).removeprefix(f'{cls.__name__}.__init__() ')}") from None
        for name in cls.data_files:
            if (folder / name).is_file():
                check_sha256(folder / name, digests.get(name))
        task.precision = entry({"precision": PRECISIONS[0], **config}, "precision", str, path)
        if task.precision not in PRECISIONS:
            raise InputError(f"{path} is damaged: its entry 'precision' must be one of {', '.join(PRECISIONS)}")
        task.load_data(folder)
        return task

    def _load_weights(self, folder: Path) -> None:
        tensors, _ = read_tensors(folder / WEIGHTS)
        module = self._built()
        expected = {name: t.dtype for name, t in module.state_dict().items()}
        try:
            module.load_state_dict(tensors)
        except RuntimeError:
            raise InputError(f"{folder / WEIGHTS} is foreign: its weights do not fit {folder / CONFIG}") from None
        for name in tensors.keys() & expected.keys():  # an earlier form of a layer's formula may be among the others
            tensor = tensors[name]
            if tensor.dtype != expected[name]:
                raise InputError(f"{folder / WEIGHTS}: {name} must be of {expected[name]}, got {tensor.dtype}")
            if not bool(tensor.isfinite().all()):
                raise InputError(f"{folder / WEIGHTS}: {name} must be finite, got infinity or not-a-number")
        self.module = module.eval()
        if (folder / METRICS).exists():
            self.history, self.scores = read_metrics(folder / METRICS, self.higher_is_better)

    def _check_same(self, folder: Path, data: Any, validation: Any, options: dict[str, Any]) -> None:
        asked = type(self)(**{**self.options(), "cell": self.cell, **options})
        if asked.cell != self.cell:
            raise InputError(f"cell: the run in {folder} was started with {self.cell.name}, got {asked.cell.name}")
        for name in options.keys() - {"cell"}:
            was, now = self.options()[name], asked.options()[name]
            if was != now:
                raise InputError(f"{name}: the run in {folder} was started with {was!r}, got {now!r}")
        if data is not None:
            asked.read(data, validation)
            if not self.same_data(asked):
                raise InputError(f"data: differs from what the run in {folder} was started with")

    @abstractmethod
    def same_data(self, other: Any) -> bool: ...


def cell_of(value: str | Cell) -> Cell:
    """A cell by name, one of the user's own as ``module:cell`` or ``file.py:cell``, or the cell itself.

    Raises:
        InputError: for a name that is none; the sentence lists the names.
    """
    if isinstance(value, Cell):
        return value
    if isinstance(value, str) and ":" in value:
        return imported(value)
    try:
        return cells.get(value)
    except ValueError as error:
        raise InputError(str(error)) from None


def task_named(name: str) -> type[Task]:
    """The class of a task by its name on the command line.

    Raises:
        InputError: for a name that is none.
    """
    if name not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, got {name!r}")
    module, _, attribute = TASKS[name].partition(":")
    found: type[Task] = getattr(importlib.import_module(module), attribute)
    return found


def load(directory: str | Path) -> Task:
    """Load a saved model of whatever task.

    Raises:
        InputError: for a directory that holds none, or a missing, truncated or foreign file.
    """
    config = read_json(Path(directory) / CONFIG)
    return task_named(str(config.get("task"))).load(directory)
