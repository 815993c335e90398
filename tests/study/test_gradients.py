"""Gradient flow and saliency against derivatives taken another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.study.gradients import norms, of_cell, of_model, saliency
from gatewise.tasks import InputError
from gatewise.tasks.exercises import Adding, MackeyGlass

D = torch.float64


@pytest.mark.parametrize("cell", [gw.cells.gru, gw.cells.lstm, gw.cells.rnn], ids=lambda cell: cell.name)
def test_norms_are_those_of_the_jacobian(cell: gw.Cell) -> None:
    torch.manual_seed(0)
    layer, x = gw.Recurrent(cell, 3, 4, dtype=D), torch.randn(6, 2, 3, dtype=D)
    found = norms(layer, x)
    states = layer(x[:2, :1])[1]
    states = states if isinstance(states, tuple) else (states,)

    def rest(*start: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = layer(x[2:, :1], start[0] if len(start) == 1 else start)[0][-1, 0]
        return out

    with gw.backend("eager"):
        jacobians: Any = torch.autograd.functional.jacobian(rest, states)
    expected = math.sqrt(sum(float(j.square().sum()) for j in jacobians) / 4)
    assert found.shape == (7, 2)
    assert found[4, 0] == pytest.approx(expected, rel=1e-9)
    assert found[0] == pytest.approx(1.0)


def test_a_state_that_is_kept_lets_gradients_through_whole() -> None:
    layer = gw.Recurrent(gw.cells.gru.pin(z=1), 2, 5, dtype=D)
    assert norms(layer, torch.randn(9, 3, 2, dtype=D)) == pytest.approx(np.ones((10, 3)))


def test_many_units_are_sampled_without_bias() -> None:
    torch.manual_seed(0)
    layer, x = gw.Recurrent(gw.cells.rnn, 3, 150, dtype=D), torch.randn(4, 1, 3, dtype=D)
    sampled = norms(layer, x)
    assert sampled[0, 0] == pytest.approx(1.0)
    (start,) = (torch.zeros(1, 1, 150, dtype=D),)
    with gw.backend("eager"):
        whole: Any = torch.autograd.functional.jacobian(lambda h: layer(x, h)[0][-1, 0], start)
    assert sampled[4, 0] == pytest.approx(float(whole.norm()) / math.sqrt(150), rel=0.2)


def test_initialisations_of_a_cell() -> None:
    flows = {flow.label: flow for flow in of_cell(gw.cells.gru, hidden_size=8, steps=30, seeds=2)}
    assert set(flows) == {"torch", "orthogonal", "chrono"}
    assert flows["chrono"].factor > flows["torch"].factor
    assert flows["chrono"].mean[30] > 1e3 * flows["torch"].mean[30]
    assert [flow.label for flow in of_cell(gw.cells.rnn, hidden_size=4, steps=5, seeds=1)] == ["torch", "orthogonal"]
    linear = of_cell(gw.cells.gru.pin(z=0.5, n=0), hidden_size=4, steps=20, seeds=1, initialise=["torch"])[0]
    assert linear.factor == pytest.approx(0.5)


@pytest.fixture(scope="module")
def adding() -> Adding:
    return Adding(span=8, hidden_size=16, max_steps=200, learning_rate=0.02).fit()


def test_the_flow_of_a_model_is_that_of_its_layer_on_its_data(adding: Adding) -> None:
    flow, read = of_model(adding, row=3)
    x = torch.from_numpy(adding.predict()["inputs"])
    assert torch.equal(read.x, x[:, 3])
    assert flow.mean == pytest.approx(norms(read.layer, x[:, 3:4])[:, 0], rel=1e-5)


def test_saliency_is_the_gradient_and_points_at_the_marked_numbers(adding: Adding) -> None:
    found = saliency(adding, row=3)
    x = torch.from_numpy(adding.predict()["inputs"]).requires_grad_()
    (gradient,) = torch.autograd.grad(adding.fitted()(x)[-1, 3, 0], x)
    assert found.values == pytest.approx(gradient[:, 3].norm(dim=-1).tolist(), rel=1e-4)
    assert found.output == "output 0 of the last step"
    assert len(found.labels) == len(found.values) == 8


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda _: of_cell(gw.cells.gru, steps=0), "steps must be an integer of at least 1, got 0"),
        (lambda _: of_cell(gw.cells.gru, steps=10**6), "steps must be at most 20000"),
        (lambda _: of_cell(gw.cells.augru), "cell must take nothing beside x"),
        (lambda _: of_cell(gw.cells.rnn, initialise=["chrono"]), "can start as none of chrono"),
        (lambda a: of_model(a, row=5000), "row must be from 0 to 999, got 5000"),
        (lambda a: saliency(a, output=1), "output must be from 0 to 0, got 1"),
        (lambda _: of_model(MackeyGlass()), "not fitted"),
        (lambda _: norms(gw.GRU(2, 2, bidirectional=True), torch.zeros(3, 1, 2)), "bidirectional"),
    ],
)
def test_bad_input_gets_a_sentence(adding: Adding, call: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call(adding)
