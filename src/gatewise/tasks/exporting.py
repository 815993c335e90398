"""``gatewise export``: a fitted model in another format, run there and compared with its own predictions first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

import gatewise
from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps, whole, write_bytes
from gatewise.tasks.options import option
from gatewise.tasks.parts import Arrays, Part, Parts, Port
from gatewise.tasks.verbs import Verb, print_table
from gatewise.tasks.weights import refuse_quantised

ABOUT = "export.json"
"""What is needed to use the files beside it; it stands in their metadata too."""


@dataclass(frozen=True)
class Written:
    """A part in a format: the content of its file, and the largest relative difference to the part itself."""

    part: Part
    content: bytes
    difference: float
    run: Callable[[Arrays], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Export(Verb):
    """Write a model in another format, with the states of its layers as inputs and outputs; a task's own class says of
    which parts it is."""

    to: str = option("onnx", "The format: onnx.")
    output: Path = option(Path("exported"), "Directory for the files.", flags=("-o", "--output"))
    force: bool = option(False, "Write over files of an earlier export.")

    @abstractmethod
    def parts(self, task: Any) -> Parts:
        """The functions of the fitted model."""

    def run(self, task: Any, model: Path, json: bool) -> None:
        """Write the files, and print what they hold and how much they differ."""
        found = export(task, self.output, self.parts, to=self.to, force=self.force)
        if json:
            print(dumps(found), end="")
            return
        rows = [
            (p["file"], ", ".join(p["inputs"]), ", ".join(p["outputs"]), f"{p['difference']:.1e}")
            for p in found["parts"]
        ]
        print_table(["file", "inputs", "outputs", "difference"], rows)
        print(
            f"{self.to} opset {found['opset']}; the model's own predictions differ by {found['difference']:.1e} of the "
            f"largest number; {self.output / ABOUT} says how to use it"
        )


def export(
    task: Task,
    directory: str | Path,
    parts: Callable[[Any], Parts] | None = None,
    *,
    to: str = "onnx",
    force: bool = False,
) -> dict[str, Any]:
    """Write a fitted model into a directory: a file for each part, and ``export.json``.

    Args:
        parts: the functions of the model; for None what the task's verb ``export`` says. to: the format. force: write
            over files of an earlier export.

    Returns:
        What stands in ``export.json``.

    Raises:
        InputError: for a task without parts, another format, files that are there, or where the parts differ from the
            model by more than 1e-5 of the largest number; then nothing is written.
    """
    if to not in TARGETS:
        raise InputError(f"to must be {' or '.join(TARGETS)}, got {to!r}")
    if parts is None:
        verb = task.verb("export")
        if verb is None:
            raise InputError(f"export: the task {task.name} says of no parts that could be exported")
        parts = verb().parts
    refuse_quantised(task.fitted(), "export")
    target = TARGETS[to]()
    folder = Path(directory)
    described = parts(task)
    names = [f"{part.name}{target.suffix}" for part in described.parts]
    _check_new(folder, [*names, ABOUT], force)
    with whole(folder, locked=False), torch.no_grad():
        found = [target.write(part) for part in described.parts]
        by_name = {one.part.name: one.run for one in found}
        apart = target.largest(described.played(lambda name, inputs: by_name[name](inputs)), task.name)
        about = {**_head(task), "target": to, "opset": target.opset, "difference": apart}
        about["parts"] = [_described(one, name) for one, name in zip(found, names, strict=True)]
        about |= described.about
        label = {ABOUT: dumps(about)}
        for one, own, name in zip(found, about["parts"], names, strict=True):
            content = target.labelled(one.content, label)
            own["sha256"] = sha256(content).hexdigest()
            write_bytes(folder / name, content)
        write_bytes(folder / ABOUT, dumps(about).encode())
    return about


def _check_new(folder: Path, names: list[str], force: bool) -> None:
    for name in names:
        if (folder / name).exists() and not force:
            raise InputError(f"{folder / name} exists; choose another directory, or write over it with --force")


def _head(task: Task) -> dict[str, Any]:
    return {"format": 1, "gatewise": gatewise.__version__, "task": task.name, "cell": task.cell.text}


def _described(one: Written, name: str) -> dict[str, Any]:
    part = one.part
    given = zip(part.inputs, part.examples[0], strict=True)
    return {
        "file": name,
        "difference": one.difference,
        "inputs": {p.name: _port(p, str(value.dtype).removeprefix("torch.")) for p, value in given},
        "outputs": {p.name: _port(p) for p in part.outputs},
        "state": dict(part.state),
    }


def _port(port: Port, dtype: str | None = None) -> dict[str, Any]:
    known = {} if dtype is None else {"dtype": dtype}
    return {**known, "shape": list(port.shape), "about": port.about}


class OnnxTarget:
    """ONNX, through torch's exporter and ONNX Runtime."""

    suffix = ".onnx"

    def __init__(self) -> None:
        from gatewise.formats import onnx

        self.largest, self.opset = onnx.largest, onnx.OPSET
        self._session, self._written, self.labelled = onnx.Session, onnx.written, onnx.labelled

    def write(self, part: Part) -> Written:
        shapes = {p.name: p.shape for p in part.inputs}
        names = [p.name for p in part.outputs]
        content = self._written(part.module, part.examples[0], shapes, names)
        session = self._session(content)
        apart = self.largest(self._pairs(part, session), part.name)
        return Written(part, content, apart, session)

    def _pairs(self, part: Part, run: Callable[[Arrays], dict[str, Any]]) -> Any:
        for example in part.examples:
            found = run({p.name: value.numpy() for p, value in zip(part.inputs, example, strict=True)})
            sizes = ", ".join(str(tuple(value.shape)) for value in example)
            for port, value in zip(part.outputs, part.module(*example), strict=True):
                yield f"{port.name} for {sizes}", value.numpy(), found[port.name]


TARGETS: dict[str, Callable[[], OnnxTarget]] = {"onnx": OnnxTarget}
