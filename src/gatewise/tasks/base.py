"""The one protocol of all applications: fit, predict, score, save, load, resume.

A saved model is a directory: ``config.json`` (the task, its options, the cell's canonical text), ``model.safetensors``
(the best weights), ``metrics.json`` (training history and scores) and whatever else the task needs to predict.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import nn

from gatewise.compiler import Cell, CellError, parse
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
    remove,
    sha256,
    whole,
    write_json,
    write_tensors,
)
from gatewise.tasks.machines import Machines, is_first
from gatewise.tasks.options import TaskOptions, describe, kept, signature
from gatewise.tasks.outcome import Scores as Scores  # tasks take it from here
from gatewise.tasks.outcome import entry, read_metrics
from gatewise.tasks.training import History, MakeReporter, Objective, Schedule, train
from gatewise.tasks.verbs import FitData, Predict, ScoreData
from gatewise.tasks.weights import loaded, precision

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT = 1
OF_EVERY_TASK = {"asked", "options", "module", "history", "scores", "metric"}
DEFAULT_VERBS: Mapping[str, type] = {"fit": FitData, "predict": Predict, "score": ScoreData}


class Task(ABC):
    """An application: subclasses say how to read data, build the network, predict and score.

    After ``fit``, ``resume`` or ``load``: ``module`` is the network in evaluation mode, ``history`` its training,
    ``scores`` the metrics on held-out data beside naive baselines.
    """

    name: ClassVar[str]
    metric: str
    """The figure of ``scores`` that counts most."""
    higher_is_better: ClassVar[bool] = False
    size_multiple: ClassVar[int] = 1
    """``hidden_size`` must be a multiple of it."""
    pass_name: ClassVar[str] = "forward"
    """What a pass over new data is, for its time: see ``sample_pass``."""
    data_files: ClassVar[tuple[str, ...]] = ()
    """What ``save_data`` may write; SHA-256 in ``config.json``."""
    unchecked_files: ClassVar[tuple[str, ...]] = ()
    """Those of them whose SHA-256 is the task's own business, since ``load`` would read large files for it."""

    options_type: ClassVar[type[TaskOptions]] = TaskOptions
    """What the constructor takes."""
    earlier: ClassVar[Mapping[str, Any]] = {}
    """Values of options for runs of earlier versions, whose ``config.json`` does not have them."""
    held_out_name: ClassVar[str] = "held out"
    """What scores are of."""
    verbs: ClassVar[Mapping[str, str | type | None]] = {}
    """Classes of ``tasks.verbs``, or ``module:class``, for the verbs of the command line that the task has its own way
    with; None for one that it does not have."""

    options: TaskOptions
    """With what the data decided."""

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.__signature__ = signature(cls.options_type)  # type: ignore[attr-defined]
        if cls.__doc__ and "options_type" in vars(cls):
            cls.__doc__ = f"{cls.__doc__.rstrip()}\n\n{describe(cls.options_type)}\n"

    def __init__(self, **options: Any) -> None:
        self.asked = self.options_type.of(options, type(self).__name__)
        self.options = self.asked
        self.module: nn.Module | None = None
        self.history = History()
        self.scores: Scores = {}

    @property
    def cell(self) -> Cell:
        return self.options.cell

    # What a task says about itself

    @abstractmethod
    def read(self, data: Any, validation: Any = None) -> None:
        """Read and check training data; None stands for the embedded default, no ``validation`` for a part of them."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained network."""

    @abstractmethod
    def objective(self) -> Objective:
        """What the training loop optimises, for the data read and ``module``."""

    def steps_per_epoch(self) -> int:
        """Steps of the optimiser between two validations."""
        return 25

    def schedule(self) -> Schedule:
        """How long and how to train, by the options."""
        o, steps = self.options, self.steps_per_epoch()
        epochs = o.epochs_of(steps)
        return Schedule(epochs, steps, o.learning_rate, o.patience or epochs, o.max_steps)

    def save_data(self, folder: Path) -> None:
        """Write what training and prediction need beside the weights into ``data_files``, by ``tasks.folder``."""
        return

    def load_data(self, folder: Path) -> None:
        """Read what ``save_data`` wrote."""
        return

    def adopt(self, other: Any) -> None:
        """Use the data that another task of the kind has read: its attributes that are no task's."""
        vars(self).update({name: value for name, value in vars(other).items() if name not in OF_EVERY_TASK})

    def same_data(self, other: Any) -> bool:
        """Whether another task has read the same data: whether it would save the same."""
        return bool(self._saved() == other._saved())

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
        other = self._like(self.asked, cell=cell, hidden_size=hidden_size)
        other.options = dataclasses.replace(self.options, cell=other.cell, hidden_size=hidden_size)
        other.adopt(self)
        return other

    @classmethod
    def verb(cls, name: str) -> Any:
        """The class of a verb; None where the task has none."""
        own = cls.verbs.get(name, DEFAULT_VERBS.get(name))
        if isinstance(own, str):
            module, _, attribute = own.partition(":")
            return getattr(importlib.import_module(module), attribute)
        return own

    def _like(self, options: TaskOptions, **changes: Any) -> Self:
        return type(self)(**{f.name: getattr(options, f.name) for f in dataclasses.fields(options)} | changes)

    # The verbs

    def fit(
        self,
        data: Any = None,
        *,
        validation: Any = None,
        directory: str | Path | None = None,
        report: MakeReporter | None = None,
    ) -> Self:
        """Train on data (None: the embedded default) and score on what was held out.

        With several ``devices`` a script must call this in ``if __name__ == "__main__":``. Under ``torchrun`` every
        process calls it; the first one alone writes the directory and has ``scores``.

        Args:
            data: see the task. validation: data of the same kind to validate on, for tasks that take it.
            directory: where the run is kept while it trains; must not hold a run yet.
            report: e.g. ``gatewise.tasks.progress.Progress``; silent when absent.

        Raises:
            InputError: for bad data or an unusable directory, before anything is computed or written; for a training
                that breaks down. WriteError: when the directory can be written no longer. A model that was reached by
                then stays in the directory, and so does what ``resume`` needs.
        """
        before, first = dict(vars(self)), is_first(self._machines())
        self.options = self.asked
        try:
            self.read(data, validation)
            with new_run(directory if first else None, self._names()) as folder:
                self._untrained()
                if folder is not None:
                    self._save_description(folder)
                return self._train(folder, report, resume=False)
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
        **options: Any,
    ) -> Self:
        """Go on with an interrupted run, with the result of a run that was never interrupted.

        Args:
            directory: of the run. data, validation, options: need not be repeated; when given they must be those of the
                run, except for those that say where it runs: accelerator, devices and num_nodes.
            report: as for ``fit``.

        Raises:
            InputError: when there is no run, it is in use, or data or an option differ from the run's.
            WriteError: when the directory can be written no longer; the run stays as of its last finished epoch.
        """
        folder = Path(directory)
        task = cls._described(folder)
        task._check_same(folder, data, validation, options)
        finished, first = (folder / METRICS).exists(), is_first(task._machines())
        if finished and not (first and any((folder / name).exists() for name in (CHECKPOINT, LOCK))):
            task._load_weights(folder)
            return task
        if not first:
            task._untrained()
            return task._train(None, report, resume=True)
        with old_run(folder):
            if (folder / METRICS).exists():  # it was finished meanwhile, or killed between its last two steps
                task._load_weights(folder)
                remove(folder / CHECKPOINT)
                return task
            task._untrained()
            return task._train(folder, report, resume=True)

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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            self.module = self._built()

    def _built(self) -> nn.Module:
        try:
            return self.build()
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "allocate" not in str(error):
                raise
            raise InputError("hidden_size and num_layers ask for a network that does not fit into memory") from None

    def _train(self, folder: Path | None, report: MakeReporter | None, resume: bool) -> Self:
        title, machines = f"{self.name} {self.cell.name}", self._machines()
        how = folder, report, title, resume, machines
        self.history = train(self.objective(), self.schedule(), self.options.seed, *how)
        if is_first(machines):
            self.scores = self.score()
        if folder is not None:
            self._save_metrics(folder)
            remove(folder / CHECKPOINT)
        return self

    def _machines(self) -> Machines:
        o = self.options
        return Machines(o.precision, o.accelerator, o.devices, o.num_nodes)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        """The files of a run."""
        return CONFIG, WEIGHTS, CHECKPOINT, METRICS, METRICS_CSV, *cls.data_files

    @classmethod
    def _checked(cls) -> list[str]:
        """The data files whose SHA-256 stands in ``config.json``."""
        return [name for name in cls.data_files if name not in cls.unchecked_files]

    def _save_description(self, folder: Path) -> None:
        self.save_data(folder)
        description = {
            "format": FORMAT,
            "gatewise": importlib.metadata.version("gatewise"),
            "task": self.name,
            "cell": self.cell.text,
            "options": self.options.as_json(),
            **precision(self.module),
            "sha256": {name: sha256(folder / name) for name in self._checked() if (folder / name).is_file()},
        }
        write_json(folder / CONFIG, description)

    def _save_metrics(self, folder: Path) -> None:
        metrics = {"scores": self.scores, **self.history.entries()}
        write_json(folder / METRICS, {**metrics, "sha256": {WEIGHTS: sha256(folder / WEIGHTS)}})

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
        older = {"precision": config["precision"]} if "precision" in config else {}  # it stood beside the options once
        foreign = [name for name in options if name not in kept(cls.options_type)]
        if foreign:
            raise InputError(f"{path} is damaged: a model of the task {cls.name} has no option {foreign[0]!r}")
        try:
            task = cls(**{**cls.earlier, **older, **options, "cell": parse(cell)})
        except (TypeError, ValueError, CellError) as error:
            raise InputError(f"{path} is damaged: {error}") from None
        for name in cls._checked():
            if (folder / name).is_file():
                check_sha256(folder / name, digests.get(name))
        task.load_data(folder)
        return task

    def _load_weights(self, folder: Path) -> None:
        self.module = loaded(self._built, folder)
        if (folder / METRICS).exists():
            self.history, self.scores = read_metrics(folder / METRICS, self.higher_is_better)

    def _check_same(self, folder: Path, data: Any, validation: Any, given: dict[str, Any]) -> None:
        """Refuse options and data that are not the run's; take over those that say where it runs."""
        asked = self._like(self.options, **given)
        if asked.cell != self.cell:
            raise InputError(f"cell: the run in {folder} was started with {self.cell.name}, got {asked.cell.name}")
        own, others = self.options.as_json(), asked.options.as_json()
        for name in own:
            if own[name] != others[name]:
                raise InputError(f"{name}: the run in {folder} was started with {own[name]!r}, got {others[name]!r}")
        if data is not None:
            asked.read(data, validation)
            if not self.same_data(asked):
                raise InputError(f"data: differs from what the run in {folder} was started with")
        self.options = asked.asked

    def _saved(self) -> dict[str, str]:
        """SHA-256 of what ``save_data`` writes, by name."""
        with tempfile.TemporaryDirectory() as place:
            self.save_data(Path(place))
            return {name: sha256(Path(place) / name) for name in self.data_files if (Path(place) / name).is_file()}
