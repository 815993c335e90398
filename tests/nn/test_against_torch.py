"""GRU(reset_after=True), LSTM and RNN beside torch.nn's: the same calls, results, gradients and weights."""

import copy
import itertools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layer_problems import flat
from torch import Tensor, nn

import gatewise as gw

BACKENDS = ["eager", "cpu"]
DTYPE = torch.float64
PAIRS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "gru": (nn.GRU, lambda *a, **k: gw.GRU(*a, **k, reset_after=True)),
    "lstm": (nn.LSTM, gw.LSTM),
    "rnn": (nn.RNN, gw.RNN),
    "rnn_relu": (
        lambda *a, **k: nn.RNN(*a, **k, nonlinearity="relu"),
        lambda *a, **k: gw.RNN(*a, **k, nonlinearity="relu"),
    ),
}


def pair(kind: str, input_size: int = 5, hidden_size: int = 7, **options: Any) -> tuple[nn.Module, nn.Module]:
    """torch's layer and ours with the same weights."""
    theirs, ours = (make(input_size, hidden_size, dtype=DTYPE, **options) for make in PAIRS[kind])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def compare(
    theirs: nn.Module,
    ours: nn.Module,
    x: Tensor,
    hx: list[Tensor] | None = None,
    fault: Callable[[nn.Module], None] = id,
) -> None:
    """Outputs, final states and the gradients of input, initial states and all weights."""
    fault(ours)
    found = []
    for layer in (theirs, ours):
        own = [t.detach().clone().requires_grad_() for t in (x, *(hx or []))]
        states = None if hx is None else own[1] if len(hx) == 1 else tuple(own[1:])
        torch.manual_seed(1)
        y, final = layer(own[0], states)
        assert isinstance(final, Tensor) == (not isinstance(layer, (nn.LSTM, gw.LSTM)))
        values = [y, *flat(final)]
        loss = sum((v * torch.arange(v.numel(), dtype=v.dtype).cos().reshape(v.shape)).sum() for v in values)
        layer.zero_grad()
        loss.backward()
        gradients = dict(layer.named_parameters())
        found.append([*values, *(t.grad for t in own), *(gradients[n].grad for n in sorted(gradients))])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10)


def states_for(kind: str, *shape: int) -> list[Tensor]:
    return [torch.randn(*shape, dtype=DTYPE) for _ in range(2 if kind == "lstm" else 1)]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Any:
    with gw.backend(request.param):
        yield request.param


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("given", [False, True], ids=["zero", "given"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"batch_first": True},
        {"bidirectional": True},
        {"num_layers": 3},
        {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False},
    ],
    ids=str,
)
def test_options(backend: str, kind: str, given: bool, options: dict[str, Any]) -> None:
    theirs, ours = pair(kind, **options)
    x = torch.randn(3, 4, 5, dtype=DTYPE)
    rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    batch = 3 if options.get("batch_first") else 4
    compare(theirs, ours, x, states_for(kind, rows, batch, 7) if given else None)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "batch_first": True}], ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["zero", "given"])
def test_unbatched(backend: str, kind: str, options: dict[str, Any], given: bool) -> None:
    theirs, ours = pair(kind, **options)
    compare(theirs, ours, torch.randn(6, 5, dtype=DTYPE), states_for(kind, 4 if options else 1, 7) if given else None)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "hidden"),
    [(4, 3, 5, 1), (4, 3, 5, 63), (4, 3, 5, 65), (4, 3, 1, 7), (4, 1, 5, 7), (4, 17, 5, 7), (1, 3, 5, 7)],
)
def test_sizes(backend: str, kind: str, steps: int, batch: int, inputs: int, hidden: int) -> None:
    theirs, ours = pair(kind, inputs, hidden)
    compare(theirs, ours, torch.randn(steps, batch, inputs, dtype=DTYPE), states_for(kind, 1, batch, hidden))


@pytest.mark.parametrize("kind", PAIRS)
def test_no_rows(backend: str, kind: str) -> None:
    theirs, ours = pair(kind, bidirectional=True)
    compare(theirs, ours, torch.randn(4, 0, 5, dtype=DTYPE))


@pytest.mark.parametrize("kind", PAIRS)
def test_no_steps_give_back_the_state(backend: str, kind: str) -> None:
    """torch refuses an empty sequence; here it is one, as in every chunked run whose last chunk is empty."""
    _, ours = pair(kind, num_layers=2)
    given = [s.requires_grad_() for s in states_for(kind, 2, 3, 7)]
    y, final = ours(torch.randn(0, 3, 5, dtype=DTYPE), given[0] if len(given) == 1 else tuple(given))
    assert y.shape == (0, 3, 7)
    for state, initial in zip(flat(final), given, strict=True):
        assert torch.equal(state, initial)
        (gradient,) = torch.autograd.grad(state.sum(), initial, retain_graph=True)
        assert torch.equal(gradient, torch.ones_like(initial))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_with_the_same_seed(backend: str, training: bool) -> None:
    theirs, ours = pair("gru", num_layers=3, dropout=0.4, bidirectional=True)
    compare(theirs.train(training), ours.train(training), torch.randn(4, 3, 5, dtype=DTYPE))


def test_all_outputs_dropped(backend: str) -> None:
    theirs, ours = pair("lstm", num_layers=2, dropout=1.0)
    compare(theirs, ours, torch.randn(4, 3, 5, dtype=DTYPE))


@pytest.mark.parametrize("kind", PAIRS)
def test_strided_input(backend: str, kind: str) -> None:
    theirs, ours = pair(kind)
    x = torch.randn(5, 3, 8, dtype=DTYPE).permute(2, 1, 0)[::2]
    compare(theirs, ours, x)
    compare(theirs, ours, torch.randn(1, 1, 5, dtype=DTYPE).expand(4, 3, 5))


@pytest.mark.parametrize("kind", PAIRS)
def test_single_precision(backend: str, kind: str) -> None:
    theirs, ours = (layer.float() for layer in pair(kind, num_layers=2))
    x = torch.randn(6, 3, 5)
    for expected, found in zip(flat(theirs(x)), flat(ours(x)), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("options", [{"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
def test_the_same_seed_gives_the_same_weights(kind: str, options: dict[str, Any]) -> None:
    layers = []
    for make in PAIRS[kind]:
        torch.manual_seed(3)
        layers.append(make(5, 7, **options))
    theirs, ours = (layer.state_dict() for layer in layers)
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[n], ours[n]) for n in theirs)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}], ids=str)
def test_weights_move_both_ways(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = (make(5, 7, **options) for make in PAIRS[kind])
    assert str(ours.load_state_dict(theirs.state_dict())) == "<All keys matched successfully>"
    back = PAIRS[kind][0](5, 7, **options)
    assert str(back.load_state_dict(ours.state_dict())) == "<All keys matched successfully>"
    assert all(torch.equal(p, q) for p, q in zip(back.parameters(), theirs.parameters(), strict=True))
    assert [[w.shape for w in ws] for ws in ours.all_weights] == [[w.shape for w in ws] for ws in theirs.all_weights]
    ours.flatten_parameters()


@pytest.mark.parametrize("kind", PAIRS)
def test_the_representation_is_torchs(kind: str) -> None:
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5, "bias": False}
    theirs, ours = (make(5, 7, **options) for make in PAIRS[kind])
    assert repr(ours).startswith(repr(theirs)[:-1].split("nonlinearity")[0].rstrip(", "))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_compute_the_same(copied: Callable[[nn.Module], nn.Module]) -> None:
    for layer in (gw.GRU(5, 7), gw.LSTM(5, 7), gw.Recurrent(gw.cells.mgu, 5, 7)):
        x = torch.randn(3, 2, 5)
        assert torch.equal(copied(layer)(x)[0], layer(x)[0])


# What torch refuses is refused with the same type, in one sentence.

X, H = torch.randn(4, 3, 5), torch.randn(1, 3, 7)
CALLS: dict[str, Callable[[Callable[..., nn.Module]], Any]] = {
    "dimensions": lambda make: make(5, 7)(torch.randn(4, 3, 5, 1)),
    "one_dimension": lambda make: make(5, 7)(torch.randn(5)),
    "width": lambda make: make(5, 7)(torch.randn(4, 3, 6)),
    "dtype": lambda make: make(5, 7)(X.double()),
    "integers": lambda make: make(5, 7)(X.long()),
    "input_size_0": lambda make: make(0, 7),
    "input_size_negative": lambda make: make(-1, 7),
    "input_size_str": lambda make: make("5", 7),
    "input_size_float": lambda make: make(5.0, 7),
    "hidden_size_0": lambda make: make(5, 0),
    "hidden_size_negative": lambda make: make(5, -7),
    "hidden_size_float": lambda make: make(5, 7.0),
    "num_layers_0": lambda make: make(5, 7, num_layers=0),
    "num_layers_float": lambda make: make(5, 7, num_layers=1.5),
    "bias_int": lambda make: make(5, 7, bias=1),
    "batch_first_str": lambda make: make(5, 7, batch_first="no"),
    "dropout_2": lambda make: make(5, 7, num_layers=2, dropout=2),
    "dropout_negative": lambda make: make(5, 7, num_layers=2, dropout=-0.1),
    "dropout_bool": lambda make: make(5, 7, num_layers=2, dropout=True),
    "dropout_str": lambda make: make(5, 7, num_layers=2, dropout="half"),
    "dropout_none": lambda make: make(5, 7, num_layers=2, dropout=None),
    "dropout_list": lambda make: make(5, 7, num_layers=2, dropout=[0.5]),
    "dropout_tensor": lambda make: make(5, 7, num_layers=2, dropout=torch.tensor(0.5)),
    "proj_size_negative": lambda make: make(5, 7, proj_size=-1),
    "proj_size_7": lambda make: make(5, 7, proj_size=7),
    "proj_size_str": lambda make: make(5, 7, proj_size="3"),
    "unknown_option": lambda make: make(5, 7, width=3),
}
STATES = {
    "batch": lambda: (X, torch.randn(1, 2, 7)),
    "rows": lambda: (X, torch.randn(2, 3, 7)),
    "hidden": lambda: (X, torch.randn(1, 3, 6)),
    "unbatched_state": lambda: (X, torch.randn(1, 7)),
    "dtype": lambda: (X, H.double()),
    "integers": lambda: (X, H.long()),
    "batched_state": lambda: (X[:, 0], H),
}


def raised(call: Callable[[], Any]) -> Exception:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(("kind", "call"), list(itertools.product(PAIRS, CALLS)), ids=str)
def test_refused_as_torch_does(kind: str, call: str) -> None:
    theirs, ours = (raised(lambda make=make: CALLS[call](make)) for make in PAIRS[kind])
    assert type(ours) is type(theirs), (str(ours), str(theirs))
    assert "\n" not in str(ours)


@pytest.mark.parametrize(("kind", "state"), list(itertools.product(PAIRS, STATES)), ids=str)
def test_states_refused_as_torch_does(kind: str, state: str) -> None:
    x, h = STATES[state]()
    hx = (h, h) if kind == "lstm" else h
    theirs, ours = (raised(lambda make=make: make(5, 7)(x, hx)) for make in PAIRS[kind])
    assert type(ours) is type(theirs), (str(ours), str(theirs))
    assert "hx" in str(ours)
    assert ", got " in str(ours)


@pytest.mark.parametrize("kind", PAIRS)
def test_numbers_that_torch_takes(kind: str) -> None:
    compare(*pair(kind, num_layers=np.int64(2), dropout=np.float32(0.5)), torch.randn(4, 3, 5, dtype=DTYPE))


def test_other_options_of_torch_get_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"nonlinearity must be 'tanh' or 'relu', got 'sin'"):
        gw.RNN(5, 7, nonlinearity="sin")
    with pytest.warns(UserWarning, match="with num_layers=1 does nothing") as caught:
        gw.GRU(5, 7, dropout=0.5)
    assert caught[0].filename == __file__


# Planted faults: the comparison above must see each of them.


def swap_gates(layer: nn.Module) -> None:
    weight = layer.weight_ih_l0.data
    weight.copy_(torch.cat([weight[7:14], weight[:7], weight[14:]]))


def drop_bias(layer: nn.Module) -> None:
    layer.bias_hh_l0.data.zero_()


def transpose(layer: nn.Module) -> None:
    weight = layer.weight_hh_l0.data
    weight.copy_(torch.cat([block.T for block in weight.split(7)]))


@pytest.mark.parametrize("fault", [swap_gates, drop_bias, transpose])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_planted_faults_are_seen(backend: str, kind: str, fault: Callable[[nn.Module], None]) -> None:
    x = torch.randn(4, 3, 5, dtype=DTYPE)
    compare(*pair(kind), x)
    with pytest.raises(AssertionError, match="not close"):
        compare(*pair(kind), x, fault=fault)
