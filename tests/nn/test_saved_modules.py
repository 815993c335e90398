"""Whole modules saved and copied: what torch.load must be told of, the form of before, and what copies leave behind."""

from __future__ import annotations

import copy
import copyreg
import gc
import io
import pickle
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.compiler.text import parse


def leaky() -> gw.Cell:
    @gw.cell
    def made(gate: Any, x: Any, h: Any) -> Any:
        """A cell of one's own, which nothing but its layer keeps."""
        return 0.9 * h + 0.1 * gw.tanh(gate.n(x, h))

    return made


MAKE: dict[str, Callable[[], Any]] = {
    "gru": lambda: gw.GRU(4, 7, learn_initial_state=True),
    "lstm": lambda: gw.LSTM(4, 7, num_layers=2, bidirectional=True),
    "rnn": lambda: gw.RNN(4, 7, nonlinearity="relu"),
    "own": lambda: gw.Recurrent(leaky(), 4, 7, initialise="orthogonal"),
    "gru_cell": lambda: gw.GRUCell(4, 7),
    "lstm_cell": lambda: gw.LSTMCell(4, 7),
    "rnn_cell": lambda: gw.RNNCell(4, 7),
}
EACH = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


def outputs(module: Any) -> list[torch.Tensor]:
    x = torch.linspace(-1, 1, 24).view(3, 2, 4)
    if isinstance(module, gw.Recurrent):
        first = torch.tensor([[True, False]] * 3)
        return [module(x)[0], module(x, lengths=[3, 1])[0], module(x, reset=first)[0]]
    return list(torch.atleast_3d(module(x[0])))


def said(model: Any) -> tuple[str, ...]:
    return repr(model), model[0].cell.text, model[0].cell.source


@EACH
def test_a_saved_module_loads_where_only_its_class_is_allowed(make: Callable[[], Any]) -> None:
    model, file = nn.Sequential(make()), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    kind, before, expected = type(model[0]), said(model), outputs(model[0])
    del model  # and with it a cell of one's own
    with torch.serialization.safe_globals([nn.Sequential, kind]):
        loaded = torch.load(file, weights_only=True)
    assert said(loaded) == before
    for found, wanted in zip(outputs(loaded[0]), expected, strict=True):
        assert torch.equal(found, wanted)


def test_a_saved_cell_loads_where_only_its_class_is_allowed() -> None:
    own, file = leaky(), io.BytesIO()
    torch.save({"cell": own}, file)
    file.seek(0)
    with torch.serialization.safe_globals([gw.Cell]):
        cell = torch.load(file, weights_only=True)["cell"]
    assert cell == own
    assert cell.source == own.source
    assert cell.equations() == own.equations()


class AsBefore(pickle.Pickler):
    """Modules with all their attributes, and cells as a call of ``parse``."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, gw.Cell):
            return parse, (value.text, value.source)
        if isinstance(value, nn.Module):
            return copyreg.__newobj__, (type(value),), value.__dict__  # type: ignore[attr-defined]
        return NotImplemented


@EACH
def test_modules_pickled_in_the_form_of_before_load(make: Callable[[], Any]) -> None:
    module, plain, saved = make(), io.BytesIO(), io.BytesIO()
    AsBefore(plain).dump(module)
    torch.save(module, saved, pickle_module=types.SimpleNamespace(Pickler=AsBefore, __name__="pickle"))
    plain.seek(0), saved.seek(0)
    for loaded in (pickle.load(plain), torch.load(saved, weights_only=True)):
        for found, expected in zip(outputs(loaded), outputs(module), strict=True):
            assert torch.equal(found, expected)


@EACH
def test_a_copy_leaves_nothing_for_the_collector(make: Callable[[], Any]) -> None:
    module = make()
    gc.freeze()  # what other tests left is none of the copy's, and looking through it takes half a second
    try:
        twin = copy.deepcopy(module)
        assert twin.cell is module.cell
        del twin
        assert gc.collect() == 0
    finally:
        gc.unfreeze()
