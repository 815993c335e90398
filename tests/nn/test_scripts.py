"""Scripts written for torch.nn: with another import, and with the insides of its layers, such as lists of weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import gatewise as gw
import gatewise.nn

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "gru": (nn.GRU, lambda *a, **k: gw.GRU(*a, **k, reset_after=True)),
    "lstm": (nn.LSTM, gw.LSTM),
    "rnn": (nn.RNN, gw.RNN),
}
EACH = pytest.mark.parametrize("kind", PAIRS)
X = torch.linspace(-1, 1, 24).view(3, 2, 4)


def tagger(nn: Any) -> Any:
    """A model as a script writes it, whose first line was ``import torch.nn as nn``."""

    class Tagger(nn.Module):  # type: ignore[misc]
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.drop, self.embed = nn.Dropout(0.1), nn.Embedding(11, 4)
            self.rnn = getattr(nn, kind)(4, 7, num_layers=2, batch_first=True)
            self.read = nn.Sequential(nn.Linear(7, 5), nn.ReLU())
            nn.init.zeros_(self.read[0].bias)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.read(self.rnn(self.drop(self.embed(words)))[0])

    return Tagger


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_a_script_changes_one_line(kind: str) -> None:
    words, found = torch.arange(11).view(1, 11), []
    for module in (nn, gatewise.nn):
        torch.manual_seed(0)
        model = tagger(module)(kind)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss = module.CrossEntropyLoss()(model(words).flatten(0, 1), words.flatten() % 5)
            loss.backward()
            module.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        found.append(loss)
    assert isinstance(model.rnn, getattr(gw, kind))
    if kind != "GRU":  # which computes the formula of the paper
        torch.testing.assert_close(*found)


def test_names_that_are_nobodys() -> None:
    with pytest.raises(AttributeError, match=r"neither gatewise\.nn nor torch.nn has an attribute 'Gru'"):
        _ = gatewise.nn.Gru
    assert not hasattr(gatewise.nn, "__wrapped__")
    assert gatewise.nn.functional is F


def test_a_saved_layer_needs_no_permission() -> None:
    """Whoever imported Gatewise may load its layers; of a script's own classes torch still wants to know."""
    for make in (gw.GRU, gw.LSTM, gw.RNN, gw.GRUCell, gw.LSTMCell, gw.RNNCell):
        layer, file = make(4, 7), io.BytesIO()
        torch.save(layer, file)
        with torch.serialization.safe_globals([make]):
            pass  # which takes the class from the list at its end
        file.seek(0)
        assert repr(torch.load(file, weights_only=True)) == repr(layer)


def pair(kind: str, **options: Any) -> tuple[Any, Any]:
    theirs, ours = (make(4, 7, **options) for make in PAIRS[kind])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@EACH
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
def test_lists_of_weights_and_of_their_names(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = pair(kind, **options)
    assert ours._all_weights == theirs._all_weights
    assert ours._flat_weights_names == theirs._flat_weights_names
    for mine, other in zip(ours._flat_weights, theirs._flat_weights, strict=True):
        assert torch.equal(mine, other)


@EACH
def test_pruning(kind: str) -> None:
    found = []
    for layer in pair(kind):
        for name in layer._flat_weights_names[:2]:
            prune.l1_unstructured(layer, name, 0.5)
        y = layer(X)[0]
        y.square().sum().backward()
        found.append([y, layer.weight_hh_l0, *(p.grad for _, p in sorted(layer.named_parameters()))])
        prune.remove(layer, "weight_hh_l0")
        found[-1].append(layer(X)[0])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    assert 0.4 < (found[1][1] == 0).float().mean() < 0.6


@EACH
def test_dropped_weights(kind: str) -> None:
    """Merity et al. 2018 (arXiv 1708.02182), sec. 2: the weight is replaced by one with zeros before each call."""
    found = []
    for layer in pair(kind):
        raw = nn.Parameter(layer.weight_hh_l0.detach())
        del layer._parameters["weight_hh_l0"]
        torch.manual_seed(0)
        layer.weight_hh_l0 = F.dropout(raw, 0.5)
        layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]
        y = layer(X)[0]
        found.append([y, *torch.autograd.grad(y.square().sum(), raw)])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_other_lists_of_weights_are_refused() -> None:
    layer = gw.GRU(4, 7)
    for weights in ([w.clone() for w in layer._flat_weights], layer._flat_weights[1:]):
        with pytest.raises(AttributeError, match=r"set those by their names, such as weight_ih_l0"):
            layer._flat_weights = weights


@pytest.mark.parametrize("make", [nn.LSTM, gw.LSTM, gw.GRU, gw.RNN])
def test_writing_into_the_output_is_torchs_error_in_training(make: Callable[..., Any]) -> None:
    """Which keeps the output once, for the caller and for the backward."""
    y, _ = make(4, 7)(X)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with torch.no_grad():
        make(4, 7)(X)[0].mul_(2)


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantisation_leaves_our_layers_as_they_are() -> None:
    model = nn.Sequential(gw.LSTM(4, 7), nn.LSTM(7, 3))
    quantised = torch.ao.quantization.quantize_dynamic(nn.ModuleList(model), {nn.LSTM})
    assert isinstance(quantised[0], gw.LSTM)
    assert not isinstance(quantised[1], nn.LSTM)
    assert torch.equal(quantised[0](X)[0], model[0](X)[0])
