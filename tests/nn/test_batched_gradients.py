"""Gradients that torch's older vmap batches: ``vectorize=True``, ``is_grads_batched`` and torch's checks of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.autograd.functional import hessian, jacobian

import gatewise as gw

DTYPE = torch.float64
MAKE: dict[str, Callable[[], Any]] = {
    "gru": lambda: gw.GRU(2, 3, dtype=DTYPE),
    "lstm": lambda: gw.LSTM(2, 3, bidirectional=True, dtype=DTYPE),
    "recompute": lambda: gw.GRU(2, 3, recompute=True, dtype=DTYPE),
    "projection": lambda: gw.LSTM(2, 3, proj_size=1, dtype=DTYPE),
}
EACH = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())
X = torch.linspace(-1, 1, 12, dtype=DTYPE).view(3, 2, 2)


def of_layer(layer: Any) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Output and final states."""

    def function(x: Tensor) -> tuple[Tensor, ...]:
        y, final = layer(x)
        return (y, *final) if isinstance(final, tuple) else (y, final)

    return function


@EACH
def test_a_vectorised_jacobian_has_the_bits_of_the_loop(make: Callable[[], Any]) -> None:
    layer = make()
    found, expected = (jacobian(of_layer(layer), X, vectorize=v) for v in (True, False))
    if layer.backend[:3] == "cpu":
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    torch.testing.assert_close(found, expected)


@EACH
def test_batched_gradients_of_weights_and_single_steps(make: Callable[[], Any]) -> None:
    layer, step = make(), gw.LSTMCell(2, 3, dtype=DTYPE)
    for value, weights in (
        (layer(X)[0], list(layer.parameters())),
        (step(X[0])[1], list(step.parameters())),
    ):
        each = torch.linspace(-1, 1, 4 * value.numel(), dtype=DTYPE).view(4, *value.shape)
        found = grad(value, weights, each, is_grads_batched=True, retain_graph=True)
        for k in range(4):
            expected = grad(value, weights, each[k], retain_graph=True)
            torch.testing.assert_close([f[k] for f in found], list(expected))


def test_vectorised_second_derivatives() -> None:
    layer = gw.GRU(2, 3, dtype=DTYPE)

    def number(x: Tensor) -> Tensor:
        return (layer(x)[0] ** 3).sum()

    found, expected = (hessian(number, X, vectorize=v) for v in (True, False))
    torch.testing.assert_close(found, expected)

    def outer(x: Tensor) -> Tensor:
        return jacobian(lambda x: layer(x)[0][-1], x, create_graph=True, vectorize=True)

    twice = jacobian(outer, X, vectorize=True)
    with gw.backend("eager"):
        torch.testing.assert_close(twice, jacobian(outer, X))


def test_torchs_checks_of_batched_gradients() -> None:
    layer, x = gw.GRU(2, 3, dtype=DTYPE), X[:2, :1].clone().requires_grad_()
    weights = list(layer.parameters())

    def function(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(dict(layer.named_parameters()), weights, strict=True))
        result: tuple[Tensor, ...] = torch.func.functional_call(layer, named, (x,))
        return result

    assert gradcheck(function, (x, *weights), check_batched_grad=True)
    assert gradgradcheck(function, (x, *weights), check_batched_grad=True, fast_mode=False)
