"""What code written for torch.nn's layers does with them beside calling: projection, hooks, weights, copies."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_problems import flat
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_sequence

import gatewise as gw

DTYPE = torch.float64
PAIRS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "gru": (nn.GRU, lambda *a, **k: gw.GRU(*a, **k, reset_after=True)),
    "lstm": (nn.LSTM, gw.LSTM),
    "rnn": (nn.RNN, gw.RNN),
}
EVERY = [lambda: gw.GRU(4, 7), *[lambda make=make: make(4, 7) for _, make in PAIRS.values()]]
IDS = ["gru_before", *PAIRS]


def pair(kind: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    theirs, ours = (make(4, 7, **options) for make in PAIRS[kind])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


# Projection.


def projected(**options: Any) -> tuple[nn.LSTM, gw.LSTM]:
    theirs, ours = (make(4, 7, proj_size=3, dtype=DTYPE, **options) for make in (nn.LSTM, gw.LSTM))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False, "batch_first": True}, {"num_layers": 2, "bidirectional": True, "dropout": 0.5}],
    ids=str,
)
@pytest.mark.parametrize("form", ["batch", "given", "unbatched", "packed", "no_rows"])
def test_projection_is_torchs(options: dict[str, Any], form: str) -> None:
    theirs, ours = projected(**options)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    x: Any = torch.randn(5, 5, 4, dtype=DTYPE)
    if form == "no_rows":
        x = x[:0] if theirs.batch_first else x[:, :0]
    k = 4 if "bidirectional" in options else 1
    hx = (torch.randn(k, 5, 3, dtype=DTYPE), torch.randn(k, 5, 7, dtype=DTYPE)) if form == "given" else None
    if form == "unbatched":
        x = x[0]
    if form == "packed":
        x = pack_sequence([x[b, : b + 1] for b in range(5)], enforce_sorted=False)
    found = []
    for layer in (theirs, ours):
        torch.manual_seed(0)
        y, final = layer(x, hx)
        values = [y.data, *flat(final)]
        layer.zero_grad()
        sum((v * torch.arange(v.numel(), dtype=DTYPE).cos().reshape(v.shape)).sum() for v in values).backward()
        found.append([*values, *(p.grad for p in layer.parameters())])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_projection_with_lengths_and_resets(options: dict[str, Any]) -> None:
    """Rows that end are rows alone; pieces between resets are rows of their own."""
    torch.manual_seed(0)
    _, ours = projected(**options)
    x = torch.randn(6, 3, 4, dtype=DTYPE)
    x[5, 0] = torch.nan
    reset = torch.zeros(6, 3, dtype=torch.bool)
    reset[2, 2] = True
    y, (h, c) = ours(x, lengths=[5, 0, 6], reset=reset)
    alone, (h_alone, c_alone) = ours(x[:5, :1])
    for mine, other in ((y[:5, :1], alone), (h[:, :1], h_alone), (c[:, :1], c_alone)):
        torch.testing.assert_close(mine, other)
    assert not y[5:, 0].any()
    assert not y[:, 1].any()
    assert not h[:, 1].any()
    if not options:
        torch.testing.assert_close(y[:, 2], torch.cat([ours(x[:2, 2])[0], ours(x[2:, 2])[0]]))


def test_projection_says_what_runs() -> None:
    layer = gw.LSTM(4, 7, proj_size=3, num_layers=2)
    assert layer.backend == "eager: proj_size projects the state in every step, which no kernel does"
    assert repr(layer) == repr(nn.LSTM(4, 7, proj_size=3, num_layers=2))
    with gw.backend("cpu"), pytest.raises(RuntimeError, match="but the layer has a proj_size; use gatewise"):
        layer(torch.randn(2, 3, 4))
    with gw.backend("cpu"), pytest.raises(RuntimeError, match="computes no projected state"):
        _ = layer.backend


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (7, ValueError, "LSTM: proj_size must be at least 0 and below hidden_size 7, got 7"),
        (-1, ValueError, "got -1"),
        (1.0, TypeError, "LSTM: proj_size must be an int, got float"),
    ],
)
def test_bad_projections(size: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gw.LSTM(4, 7, proj_size=size)


def test_the_projected_state_has_its_own_width() -> None:
    x, h = torch.randn(2, 3, 4), torch.randn(1, 3, 7)
    with pytest.raises(RuntimeError, match=r"state h of hx must have shape \(1, 3, 3\), got \(1, 3, 7\)"):
        gw.LSTM(4, 7, proj_size=3)(x, (h, h))


# Weights.


@pytest.mark.parametrize("make", EVERY, ids=IDS)
def test_weights_are_attributes_and_can_be_replaced(make: Callable[[], Any], backend: str) -> None:
    layer, x = make(), torch.randn(3, 2, 4)
    assert layer.weight_hh_l0 is dict(layer.named_parameters())["weight_hh_l0"]
    assert layer.all_weights[0][1] is layer.weight_hh_l0
    layer.flatten_parameters()
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(torch.zeros_like(parameter)))
    assert not layer(x)[0].any()


@pytest.mark.parametrize("kind", PAIRS)
def test_order_of_parameters_is_torchs(kind: str) -> None:
    theirs, ours = pair(kind, num_layers=2, bidirectional=True)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    vectors = [nn.utils.parameters_to_vector(layer.parameters()) for layer in (theirs, ours)]
    assert torch.equal(*vectors)


@pytest.mark.parametrize("kind", PAIRS)
def test_weight_norm(kind: str, backend: str) -> None:
    x, found = torch.randn(3, 2, 4), []
    for layer in pair(kind):
        parametrizations.weight_norm(layer, "weight_hh_l0")
        layer.parametrizations.weight_hh_l0.original0.data.mul_(1.5)
        y, _ = layer(x)
        y.square().sum().backward()
        found.append([y, *(p.grad for _, p in sorted(layer.named_parameters()))])
        parametrize.remove_parametrizations(layer, "weight_hh_l0")
        found[-1].append(layer(x)[0])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", EVERY, ids=IDS)
def test_meta_construction_and_assignment(make: Callable[[], Any], backend: str) -> None:
    source, x = make(), torch.randn(3, 2, 4)
    with torch.device("meta"):
        layer = make()
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    layer.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(layer(x)[0], source(x)[0])
    assert layer.weight_hh_l0.data_ptr() == source.weight_hh_l0.data_ptr()
    with torch.device("meta"):
        empty = make().to_empty(device="cpu")
    empty.load_state_dict(source.state_dict())
    assert torch.equal(empty(x)[0], source(x)[0])


@pytest.mark.parametrize("kind", PAIRS)
def test_meta_input_gives_meta_output(kind: str) -> None:
    theirs, ours = (make(4, 7, device="meta") for make in PAIRS[kind])
    x = torch.empty(3, 2, 4, device="meta")
    assert [t.shape for t in flat(ours(x))] == [t.shape for t in flat(theirs(x))]


@pytest.mark.parametrize("make", EVERY, ids=IDS)
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "save"])
def test_copies_compute_the_same(make: Callable[[], Any], way: str) -> None:
    layer, x = make().eval(), torch.randn(3, 2, 4)
    if way == "deepcopy":
        twin = copy.deepcopy(layer)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(layer))
    else:
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        twin = torch.load(buffer, weights_only=False)
    assert torch.equal(twin(x)[0], layer(x)[0])
    assert not twin.training
    assert twin.weight_hh_l0 is not layer.weight_hh_l0
    assert repr(twin) == repr(layer)


# dtypes.


@pytest.mark.usefixtures("without_matrix_unit")
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    theirs, ours = (layer.to(dtype) for layer in pair(kind))
    x = torch.randn(3, 2, 4, dtype=dtype)
    for expected, value in zip(flat(theirs(x)), flat(ours(x)), strict=True):
        assert value.dtype == dtype
        torch.testing.assert_close(value, expected, rtol=0.05, atol=0.02)
    if dtype == torch.bfloat16:
        assert ours.backend.endswith("bfloat16 weights in float32 arithmetic")
    else:
        assert ours.backend.startswith("eager: the cpu backend computes in float32 and float64, but")


@pytest.mark.parametrize("make", EVERY, ids=IDS)
def test_to_another_dtype_and_back(make: Callable[[], Any], backend: str) -> None:
    layer, x = make(), torch.randn(3, 2, 4)
    y, _ = layer(x)
    assert layer.double()(x.double())[0].dtype == torch.float64
    torch.testing.assert_close(layer.to(torch.float32)(x)[0], y, rtol=0, atol=0)


# Hooks, modes, calls.


@pytest.mark.parametrize("make", EVERY, ids=IDS)
def test_hooks(make: Callable[[], Any], backend: str) -> None:
    layer, calls = make(), []
    layer.register_forward_pre_hook(lambda module, args: calls.append("before"))
    layer.register_forward_hook(lambda module, args, result: calls.append("after"))
    layer.register_full_backward_hook(lambda module, grad_in, grad_out: calls.append("backward"))
    layer.weight_hh_l0.register_hook(lambda grad: calls.append("gradient"))
    y, _ = layer(torch.randn(3, 2, 4, requires_grad=True))
    y.sum().backward()
    assert sorted(calls) == ["after", "backward", "before", "gradient"]


@pytest.mark.parametrize("kind", PAIRS)
def test_arguments_by_name(kind: str, backend: str) -> None:
    theirs, ours = pair(kind)
    x = torch.randn(3, 2, 4)
    h = torch.randn(1, 2, 7)
    hx = (h, h) if kind == "lstm" else h
    for expected, value in zip(flat(theirs(input=x, hx=hx)), flat(ours(input=x, hx=hx)), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
