"""Made the run folders and state_dicts beside it, with what they gave then: later versions must load them.

    PYTHONPATH=src python tests/data/make.py FOLDER

writes ``FOLDER/folders`` and ``FOLDER/layers``. What lies here was made by version 0.1.0 at format 1 and is never made
anew: another format gets another folder beside these.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import gatewise as gw
from gatewise.tasks.exercises import Adding
from gatewise.tasks.forecast.table import Table

WORDS = {"red": "rouge", "blue": "bleu", "cat": "chat", "dog": "chien", "eats": "mange", "sees": "voit"}
TEXTS = ["red cat eats.", "dog sees.", "blue dog eats red cat."]
TRANSLATOR = {"hidden_size": 16, "embedding_size": 8, "vocabulary": "words", "joint": False, "dropout": 0.1}
TRANSLATOR |= {"learning_rate": 4e-2, "batch_size": 16, "average": 0.9, "epochs": 8}
FORECASTER = {"horizon": 4, "hidden_size": 6, "max_steps": 50}
STOPPED = 15
"""The step in which the training of ``unfinished`` was stopped: the fourth of its second of three epochs."""


@gw.cell
def leaky(gate, x, h, *, gap=1, rate=gw.vector("hidden")):  # type: ignore[no-untyped-def]
    """A cell of one's own, with all that a state_dict can hold: an input, a diagonal and a vector."""
    z = gw.sigmoid(gate.z(x, h, gw.diagonal(h)))
    n = gw.tanh(gate.n(x, z * h, gap))
    return z * h * gw.exp(-rate * rate) + (1 - z) * n


@gw.cell
def mixed(gate, x, h):  # type: ignore[no-untyped-def]
    """A cell of one's own that takes nothing beside x."""
    z = gw.sigmoid(gate.z(x, h, gw.diagonal(h)))
    return z * h + (1 - z) * gw.softplus(gate.n(x, h) - 0.5)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: gw.GRU(3, 5),
    "gru_stack": lambda: gw.GRU(3, 5, num_layers=2, bidirectional=True),
    "gru_reset_after": lambda: gw.GRU(3, 5, num_layers=2, bidirectional=True, reset_after=True),
    "lstm": lambda: gw.LSTM(3, 5, bidirectional=True),
    "rnn": lambda: gw.RNN(3, 5),
    "own_cell": lambda: gw.Recurrent(leaky, 3, 5),
    "gru_cell": lambda: gw.GRUCell(3, 5),
    "gru_cell_reset_after": lambda: gw.GRUCell(3, 5, reset_after=True),
    "lstm_cell": lambda: gw.LSTMCell(3, 5),
    "inside": lambda: nn.ModuleDict({"first": gw.GRU(3, 5), "head": nn.Linear(5, 2)}),
}


def outputs(name: str, module: nn.Module, x: Tensor, gap: Tensor) -> dict[str, Tensor]:
    """What a layer of ``LAYERS`` gives for x (T, B, 3) and gap (T, B, 1), by name."""
    with torch.no_grad():
        if name == "inside":
            assert isinstance(module, nn.ModuleDict)
            return {"output": module["head"](module["first"](x)[0])}
        if name.partition("_reset")[0].endswith("cell") and name != "own_cell":
            found = module(x[0])
            return {"output": found} if isinstance(found, Tensor) else {"output": found[0], "state": found[1]}
        output, state = module(x, gap=gap) if name == "own_cell" else module(x)
    states = {"state": state} if isinstance(state, Tensor) else {"state": state[0], "state_c": state[1]}
    return {"output": output, **states}


def table() -> Table:
    """Two daily series with a value missing."""
    days = (np.datetime64("2020-01-01") + np.arange(60)).astype("datetime64[s]")
    i = np.arange(60)
    first, second = i % 7 + i * i % 11 + 0.5, 10.0 - i % 7 + i * i % 5
    return Table({"a": (days, np.where(i == 20, np.nan, first)), "b": (days, second)}, "cups")


def pairs(count: int = 200) -> list[tuple[str, str]]:
    """Phrases of two to five words; in the target the words come the other way round."""
    generator = np.random.default_rng(0)
    phrases = [generator.choice(list(WORDS), int(generator.integers(2, 6))).tolist() for _ in range(count)]
    return [(" ".join(words) + ".", " ".join(WORDS[word] for word in words[::-1]) + ".") for words in phrases]


class Stopping:
    """A reporter that presses Ctrl-C at a step."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Stopping:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, loss: float, per_second: float) -> None:
        if step == STOPPED:
            raise KeyboardInterrupt

    def epoch(self, history: object, note: str) -> None: ...


def given(task: Any) -> dict[str, Tensor]:
    """What a fitted task gives, as tensors: forecasts, log-probabilities, outputs; and its scores."""
    if isinstance(task, gw.Translator):
        best = task.translations(TEXTS, beam_size=3)
        found = {"log_probabilities": torch.tensor([one[0].log_probability for one in best])}
        found |= {f"pieces.{k}": torch.tensor(one[0].ids) for k, one in enumerate(best)}
    elif isinstance(task, gw.Forecaster):
        found = {"y": torch.tensor(task.predict()["y"])}
    else:
        found = {"outputs": torch.tensor(task.predict()["outputs"][:, :16])}
    scores = [list(figures.values()) for figures in task.scores.values()]
    return {**found, "scores": torch.tensor(scores, dtype=torch.float64)}


def make_layers(folder: Path) -> None:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    x, gap = torch.randn(4, 2, 3), torch.rand(4, 2, 1)
    for name, build in LAYERS.items():
        module = build()
        torch.save(module.state_dict(), folder / f"{name}.pt")
        save_file(module.state_dict(), folder / f"{name}.safetensors")
        save_file({"x": x, "gap": gap, **outputs(name, module, x, gap)}, folder / f"{name}.given.safetensors")


def make_folders(folder: Path) -> None:
    folder.mkdir(parents=True)
    tasks: dict[str, tuple[Any, Any]] = {
        "forecast": (gw.Forecaster(**FORECASTER), table()),
        "own_cell": (gw.Forecaster(cell=mixed, **FORECASTER), table()),
        "translate": (gw.Translator(**TRANSLATOR, max_steps=96), pairs()),
        "adding": (Adding(span=6, hidden_size=5, max_steps=60), None),
    }
    for name, (task, data) in tasks.items():
        task.fit(data, directory=folder / name)
        save_file(given(task), folder / f"{name}.given.safetensors")
    options = {**TRANSLATOR, "hidden_size": 8, "epochs": 3}
    try:
        gw.Translator(**options).fit(pairs(), directory=folder / "unfinished", report=Stopping)
    except KeyboardInterrupt:
        whole = gw.Translator(**options).fit(pairs())
        save_file({**given(whole), **whole.network.state_dict()}, folder / "unfinished.given.safetensors")


if __name__ == "__main__":
    make_layers(Path(sys.argv[1]) / "layers")
    make_folders(Path(sys.argv[1]) / "folders")
