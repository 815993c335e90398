"""GRUCell, LSTMCell and RNNCell: torch.nn's results, weights and errors, and the bits of the layers."""

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_problems import flat
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gatewise as gw

DTYPE = torch.float64
PAIRS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "gru": (nn.GRUCell, lambda *a, **k: gw.GRUCell(*a, **k, reset_after=True)),
    "lstm": (nn.LSTMCell, gw.LSTMCell),
    "rnn": (nn.RNNCell, gw.RNNCell),
    "rnn_relu": (
        lambda *a, **k: nn.RNNCell(*a, **k, nonlinearity="relu"),
        lambda *a, **k: gw.RNNCell(*a, **k, nonlinearity="relu"),
    ),
}
EVERY = [gw.GRUCell, *[make for _, make in PAIRS.values()]]
IDS = ["gru_before", *PAIRS]


def pair(kind: str, *sizes: int, **options: Any) -> tuple[nn.Module, nn.Module]:
    theirs, ours = (make(*(sizes or (4, 7)), **options) for make in PAIRS[kind])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("shape", [(3,), (1,), (0,), ()], ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["zero", "given"])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_torchs(
    backend: str, kind: str, shape: tuple[int, ...], given: bool, bias: bool
) -> None:
    x = torch.randn(*shape, 4, dtype=DTYPE)
    hx = [torch.randn(*shape, 7, dtype=DTYPE) for _ in range(2 if kind == "lstm" else 1)] if given else []
    found = []
    for layer in pair(kind, bias=bias, dtype=DTYPE):
        own = [t.clone().requires_grad_() for t in (x, *hx)]
        result = layer(own[0], None if not hx else own[1] if len(hx) == 1 else tuple(own[1:]))
        assert isinstance(result, Tensor) == (kind != "lstm")
        values = flat(result)
        sum((v * torch.arange(v.numel(), dtype=DTYPE).cos().reshape(v.shape)).sum() for v in values).backward()
        found.append([*values, *(t.grad for t in own), *(p.grad for p in layer.parameters())])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("after", [False, True])
def test_steps_have_the_bits_of_the_layer(after: bool, backend: str) -> None:
    layer, step = gw.GRU(4, 7, reset_after=after), gw.GRUCell(4, 7, reset_after=after)
    step.load_state_dict({n.removesuffix("_l0"): v for n, v in layer.state_dict().items()})
    x, h = torch.randn(5, 3, 4), None
    y, _ = layer(x)
    for t in range(5):
        h = step(x[t], h)
        if backend == "cpu":
            assert torch.equal(h, y[t])
        torch.testing.assert_close(h, y[t])


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("bias", [True, False])
def test_weights_are_torchs_and_move_both_ways(kind: str, bias: bool) -> None:
    layers = []
    for make in PAIRS[kind]:
        torch.manual_seed(3)
        layers.append(make(4, 7, bias=bias))
    theirs, ours = layers
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert str(theirs.load_state_dict(ours.state_dict())) == "<All keys matched successfully>"
    assert (ours.bias_hh is None) == (theirs.bias_hh is None) == (not bias)


def test_the_formula_of_the_paper_keeps_to_itself() -> None:
    step = gw.GRUCell(4, 7)
    assert [n for n, _ in step.named_parameters()] == ["weight_ih", "weight_hh", "bias_ih"]
    assert step.bias_hh is None
    gw.GRUCell(4, 7).load_state_dict(step.state_dict())
    with pytest.raises(RuntimeError, match=r"carries no formula.*this layer computes gru; load .*reset_after=True"):
        step.load_state_dict(nn.GRUCell(4, 7).state_dict())
    for theirs in (nn.GRUCell(4, 7), gw.GRUCell(4, 7, reset_after=True)):
        with pytest.raises(RuntimeError, match=r"formula_gru|but this layer computes gru_reset_after"):
            theirs.load_state_dict(step.state_dict())


def test_representations() -> None:
    assert repr(gw.GRUCell(4, 7)) == repr(nn.GRUCell(4, 7)) == "GRUCell(4, 7)"
    assert repr(gw.GRUCell(4, 7, bias=False, reset_after=True)) == "GRUCell(4, 7, bias=False, reset_after=True)"
    for options in ({}, {"nonlinearity": "relu"}, {"bias": False, "nonlinearity": "relu"}):
        assert repr(gw.RNNCell(4, 7, **options)) == repr(nn.RNNCell(4, 7, **options))
    assert repr(gw.LSTMCell(4, 7, bias=False)) == repr(nn.LSTMCell(4, 7, bias=False))


@pytest.mark.usefixtures("without_matrix_unit")
@pytest.mark.parametrize("make", EVERY, ids=IDS)
def test_copies_devices_and_dtypes(make: Callable[..., Any]) -> None:
    step, x = make(4, 7), torch.randn(3, 4)
    expected = flat(step(x))[0]
    for twin in (copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        assert torch.equal(flat(twin(x))[0], expected)
    with torch.device("meta"):
        empty = make(4, 7)
    assert flat(empty(x.to("meta")))[0].shape == (3, 7)
    empty.load_state_dict(step.state_dict(), assign=True)
    assert torch.equal(flat(empty(x))[0], expected)
    half = copy.deepcopy(step).to(torch.bfloat16)
    torch.testing.assert_close(flat(half(x.bfloat16()))[0].float(), expected, rtol=0.05, atol=0.03)
    assert half.backend.endswith("bfloat16 weights in float32 arithmetic")
    with gw.backend("cpu"):
        assert step.backend.startswith("cpu/")


def test_a_step_under_autocast() -> None:
    step, x = gw.LSTMCell(4, 7), torch.randn(3, 4)
    zero = torch.zeros(3, 7, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        h, _ = step(x.bfloat16(), (zero, zero))
    torch.testing.assert_close(h.float(), step(x)[0], rtol=0.05, atol=0.02)


def test_weight_norm() -> None:
    x, found = torch.randn(3, 4), []
    for layer in pair("gru"):
        parametrizations.weight_norm(layer, "weight_hh")
        layer.parametrizations.weight_hh.original0.data.mul_(1.5)
        h = layer(x, torch.ones(3, 7))
        h.square().sum().backward()
        found.append([h, *(p.grad for _, p in sorted(layer.named_parameters()))])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


# Bad input: torch's types, our sentences.

X, H = torch.randn(3, 4), torch.randn(3, 7)
BAD = {
    "dimensions": (X[None], None, "input must have 1 (unbatched) or 2 dimensions, got 3"),
    "width": (X[:, 1:], None, "the last dimension of input must be input_size 4, got 3"),
    "dtype": (X.double(), None, "input must have the dtype of the weights, torch.float32, got torch.float64"),
    "state_width": (X, H[:, 1:], "must have shape (3, 7), got (3, 6)"),
    "rows": (X, H[1:], "must have shape (3, 7), got (2, 7)"),
    "state_dimensions": (X, H[None, None], "must have 1 (unbatched) or 2 dimensions, got 4"),
    "state_dtype": (X, H.double(), "must have the dtype of the input, torch.float32, got torch.float64"),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(("x", "h", "message"), BAD.values(), ids=BAD.keys())
def test_calls_refuse_with_torchs_types(kind: str, x: Tensor, h: Tensor | None, message: str) -> None:
    errors = []
    for layer in pair(kind):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            layer(x, (h, h) if kind == "lstm" and h is not None else h)
        errors.append(caught)
    theirs, ours = errors
    assert ours.type is theirs.type
    assert message in str(ours.value)
    assert "\n" not in str(ours.value)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("sizes", [(0, 7), (4, 0), (0, 0)], ids=str)
def test_a_size_of_zero_is_one_as_in_torch(kind: str, sizes: tuple[int, int]) -> None:
    theirs, ours = pair(kind, *sizes)
    found = []
    for layer in (theirs, ours):
        x, h = torch.ones(3, sizes[0], requires_grad=True), torch.ones(3, sizes[1], requires_grad=True)
        values = flat(layer(x, (h, h) if kind == "lstm" else h))
        gradients = torch.autograd.grad(sum(v.sum() for v in values), [x, h, *layer.parameters()])
        found.append([*values, *gradients, *flat(layer(x))])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected)
    assert ours.backend == "eager: a size is zero, which no kernel computes"
    with gw.backend("cpu"), pytest.raises(RuntimeError, match="the cpu backend computes no width of zero, got"):
        ours(x)


WRONG_SIZES = [{"hidden_size": -1}, {"input_size": -1}, {"hidden_size": 2.5}, {"input_size": "4"}]


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("wrong", WRONG_SIZES, ids=str)
def test_sizes_are_refused_with_torchs_types(kind: str, wrong: dict[str, Any]) -> None:
    errors = []
    for make in PAIRS[kind]:
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            make(**{"input_size": 4, "hidden_size": 7, **wrong})
        errors.append(caught)
    assert errors[1].type is errors[0].type
    assert re.search(r"Cell: (input|hidden)_size must be .*, got", str(errors[1].value))


def test_other_mistakes_get_a_sentence() -> None:
    with pytest.raises(TypeError, match="GRUCell: input must be a tensor, got list"):
        gw.GRUCell(4, 7)([1.0])
    with pytest.raises(TypeError, match=r"hx of cell lstm must be a tuple of 2 tensors \(h, c\), got \(Tensor\)"):
        gw.LSTMCell(4, 7)(X, H)
    with pytest.raises(RuntimeError, match="on the device of the weights, cpu, got meta"):
        gw.RNNCell(4, 7)(X.to("meta"))
    with pytest.raises(TypeError, match="RNNCell: bias must be a bool, got str"):
        gw.RNNCell(4, 7, "relu")
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu', got 'sin'"):
        gw.RNNCell(4, 7, nonlinearity="sin")
