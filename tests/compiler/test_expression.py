"""The expression graph: identity, widths, folding, walks."""

import gc
import math

import numpy as np
import pytest
import torch

from gatewise import exp, hard_sigmoid, log, maximum, minimum, relu, sigmoid, softplus, tanh, where
from gatewise.compiler.expression import (
    Node,
    const,
    depends,
    make,
    postorder,
    reaches,
    rewrite,
    simplified,
)

H = make("state", (), "h", "hidden")
C = make("state", (), "c", "hidden")
X = make("input", (), "x", "input")
M = make("input", (), "m", 1)


def test_the_same_expression_is_the_same_node() -> None:
    assert sigmoid(H) * C + 1 is sigmoid(H) * C + 1.0
    assert H * C is not C * H
    assert const(0.0) is not const(-0.0)
    assert hard_sigmoid(H, 0.2) is not hard_sigmoid(H)
    assert make("input", (), "m", 1) is not make("input", (), "m", 3)


def test_nodes_are_forgotten_with_their_last_user() -> None:
    from gatewise.compiler import expression

    gc.collect()
    before = len(expression._interned)
    kept = tanh(H) * 12345.0
    assert len(expression._interned) > before
    del kept
    gc.collect()
    assert len(expression._interned) == before


@pytest.mark.parametrize(
    ("node", "width"),
    [
        (H + C, "hidden"),
        (H * M, "hidden"),
        (2 - X, "input"),
        (M / 3, 1),
        (where(M < 0, H, 0.0), "hidden"),
        (where(H < 0, 1.0, 0.0), "hidden"),
        (minimum(M, X), "input"),
        (-H, "hidden"),
        (exp(M), 1),
    ],
)
def test_widths(node: Node, width: object) -> None:
    assert node.width == width


@pytest.mark.parametrize(
    "build",
    [
        lambda: H + X,
        lambda: X * make("input", (), "k", 3),
        lambda: make("input", (), "j", 2) - make("input", (), "k", 3),
        lambda: where(H < 0, X, M),
        lambda: where(X < 0, H, C),
        lambda: maximum(H, X),
        lambda: H < X,
    ],
)
def test_widths_that_do_not_fit(build: object) -> None:
    with pytest.raises(TypeError, match=r"one width, but got widths .* and .*"):
        build()


def test_numbers_fold_when_they_meet() -> None:
    assert const(2.0) * 3 is const(6.0)
    assert 1 - const(0.25) is const(0.75)
    assert -const(2.0) is const(-2.0)
    assert exp(1.0) == math.e
    assert where(const(1.0) < 2, H, C) is H
    assert where(const(1.0) > 2, H, C) is C
    assert maximum(const(1.0), 2) is const(2.0)


@pytest.mark.parametrize(
    "function", [sigmoid, tanh, relu, softplus, exp, lambda v: log(v * v + 1), hard_sigmoid], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("value", [-30.0, -3.0, -0.5, 0.0, 0.5, 3.0, 30.0])
def test_folding_gives_torchs_values(function: object, value: float) -> None:
    folded = function(const(value)).attr
    torch.testing.assert_close(folded, function(torch.tensor(value, dtype=torch.float64)).item(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("build", [lambda: H + math.inf, lambda: math.nan * H, lambda: const(1e308) * 10])
def test_constants_are_finite(build: object) -> None:
    with pytest.raises(ArithmeticError, match="must be finite"):
        build()


def test_numbers_of_numpy_are_numbers() -> None:
    assert np.float64(2.0) * H is 2 * H
    assert H + np.float32(0.5) is H + 0.5
    assert np.int64(3) - H is 3 - H


def test_walks() -> None:
    product = sigmoid(H) * C
    nodes = postorder([product, product + H])
    assert nodes == [H, sigmoid(H), C, product, product + H]
    assert depends(product, ["state"])
    assert not depends(exp(M), ["state", "affine"])
    assert reaches([product], [H])
    assert not reaches([product], [H], without=sigmoid(H))
    assert reaches([product + H], [H], without=sigmoid(H))


def test_walks_need_no_recursion() -> None:
    node = H
    for _ in range(20_000):
        node = tanh(node) + 1
    assert len(postorder([node])) == 40_002
    assert rewrite([node], {H: C})[0] is not node


def test_rewrite_replaces_and_shares() -> None:
    old = sigmoid(H) * C + sigmoid(H)
    (new,) = rewrite([old], {sigmoid(H): tanh(C)})
    assert new is tanh(C) * C + tanh(C)
    assert rewrite([old], {X: C})[0] is old


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        (H * C, 0.0, const(0.0)),
        (H * C, 1.0, C),
        (C * H, 1.0, C),
        (C / H, 1.0, C),
        (H + C, 0.0, C),
        (C - H, 0.0, C),
        (H - C, 0.0, -C),
        (H * 2 + C, 3.0, 6 + C),
        (-H, 2.0, const(-2.0)),
        (sigmoid(H) * C, 0.0, 0.5 * C),
        (where(H < 0.5, C, tanh(C)), 1.0, tanh(C)),
        (maximum(H, 0.5) * C, 1.0, C),
        (minimum(H, C), 1.0, minimum(1.0, C)),
    ],
)
def test_simplified(old: Node, value: float, new: Node) -> None:
    assert rewrite([old], {H: const(value)}, simplified)[0] is new
