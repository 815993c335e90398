"""PackedSequence in and out: torch.nn's results, and the bits of each sequence alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_problems import flat
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import gatewise as gw
from gatewise.nn.packed import segments

DTYPE = torch.float64
PAIRS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "gru": (nn.GRU, lambda *a, **k: gw.GRU(*a, **k, reset_after=True)),
    "lstm": (nn.LSTM, gw.LSTM),
    "rnn": (nn.RNN, gw.RNN),
}
LENGTHS = {
    "unsorted": [2, 5, 1, 5, 3],
    "sorted": [5, 3, 3, 2, 2],
    "equal": [4, 4, 4],
    "one": [3],
    "short": [1, 1],
}


def pack(lengths: list[int], rows: list[Tensor]) -> PackedSequence:
    return pack_sequence(rows, enforce_sorted=lengths == sorted(lengths, reverse=True))


def measure(layer: nn.Module, lengths: list[int], rows: list[Tensor], hx: list[Tensor] | None) -> list[Tensor | None]:
    """Outputs, final states and the gradients of input, initial states and all weights."""
    own = [t.detach().clone().requires_grad_() for t in (*rows, *(hx or []))]
    states = own[len(rows) :]
    packed = pack(lengths, own[: len(rows)])
    torch.manual_seed(1)
    y, final = layer(packed, None if hx is None else states[0] if len(states) == 1 else tuple(states))
    assert isinstance(y, PackedSequence)
    assert torch.equal(y.batch_sizes, packed.batch_sizes)
    for name in ("sorted_indices", "unsorted_indices"):
        mine, given = getattr(y, name), getattr(packed, name)
        assert (mine is None and given is None) or torch.equal(mine, given)
    values = [y.data, *flat(final)]
    loss = sum((v * torch.arange(v.numel(), dtype=v.dtype).cos().reshape(v.shape)).sum() for v in values)
    layer.zero_grad()
    loss.backward()
    return [*values, *(t.grad for t in own), *(p.grad for p in layer.parameters())]


def states_for(kind: str, rows: int, batch: int) -> list[Tensor]:
    return [torch.randn(rows, batch, 7, dtype=DTYPE) for _ in range(2 if kind == "lstm" else 1)]


HARD = {"num_layers": 2, "bidirectional": True, "dropout": 0.5}
CASES = [(HARD, True, name) for name in LENGTHS]
CASES += [(HARD, False, "unsorted"), ({}, False, "unsorted"), ({"bias": False, "batch_first": True}, True, "sorted")]


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(("options", "given", "name"), CASES, ids=str)
def test_results_and_gradients_are_torchs(
    backend: str, kind: str, options: dict[str, Any], given: bool, name: str
) -> None:
    lengths = LENGTHS[name]
    theirs, ours = (make(4, 7, dtype=DTYPE, **options) for make in PAIRS[kind])
    ours.load_state_dict(theirs.state_dict())
    rows = [torch.randn(n, 4, dtype=DTYPE) for n in lengths]
    hx = states_for(kind, 4 if "bidirectional" in options else 1, len(lengths)) if given else None
    expected, found = (measure(layer, lengths, rows, hx) for layer in (theirs, ours))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_the_bits_are_those_of_each_sequence_alone() -> None:
    for layer in (gw.GRU(4, 7, num_layers=2, bidirectional=True), gw.Recurrent(gw.cells.mgu, 4, 7)):
        rows = [torch.randn(n, 4) for n in (2, 5, 1, 3)]
        y, final = layer(pack_sequence(rows, enforce_sorted=False))
        padded, lengths = pad_packed_sequence(y)
        for b, row in enumerate(rows):
            alone, state = layer(row)
            assert torch.equal(padded[: lengths[b], b], alone)
            assert torch.equal(final[:, b], state)


def test_rows_that_end_apart_and_together() -> None:
    """Segments padded and not: every sequence has its own bits, forward and backward."""
    layer = gw.GRU(4, 7, bidirectional=True)
    lengths = [200, 3, 120, 121, 120, 1, 200, 42]
    assert len(segments(pack_sequence([torch.zeros(n) for n in lengths], False).batch_sizes, torch.device("cpu"))) > 2
    rows = [torch.randn(n, 4, requires_grad=True) for n in lengths]
    y, final = layer(pack_sequence(rows, enforce_sorted=False))
    padded, _ = pad_packed_sequence(y)
    grads = torch.autograd.grad(y.data.sum() + final.sum(), rows)
    for b, row in enumerate(rows):
        alone, state = layer(row)
        assert torch.equal(padded[: len(row), b], alone)
        assert torch.equal(final[:, b], state)
        assert torch.equal(torch.autograd.grad(alone.sum() + state.sum(), row)[0], grads[b])


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("lengths", [[2, 5, 1, 5, 3], [4, 4]], ids=str)
def test_resets_and_keyword_inputs_packed_alike(lengths: list[int], first: bool) -> None:
    layer = gw.Recurrent(gw.cells.augru, 4, 7, num_layers=2, bidirectional=True, batch_first=first)
    rows = [torch.randn(n, 4) for n in lengths]
    attention, reset = [torch.rand(n) for n in lengths], [torch.rand(n) < 0.3 for n in lengths]
    hx = torch.randn(4, len(lengths), 7)
    x, a, r = (pack_sequence(values, enforce_sorted=False) for values in (rows, attention, reset))
    y, final = layer(x, hx, attention=a, reset=r)
    padded, _ = pad_packed_sequence(y, batch_first=True)
    for b, n in enumerate(lengths):
        alone, state = layer(rows[b], hx[:, b], attention=attention[b], reset=reset[b])
        assert torch.equal(padded[b, :n], alone)
        assert torch.equal(final[:, b], state)


def test_what_comes_with_a_packed_sequence_is_packed_as_it_is() -> None:
    layer, x = gw.Recurrent(gw.cells.augru, 4, 7), pack_sequence([torch.randn(n, 4) for n in (3, 2)])
    score = pack_sequence([torch.rand(3), torch.rand(2)])
    other = pack_sequence([torch.rand(3), torch.rand(1)])
    turned = pack_sequence([torch.rand(2), torch.rand(3)], enforce_sorted=False)
    for error, given, message in (
        (TypeError, {"attention": score, "lengths": [3, 2]}, "lengths must be None for a PackedSequence, which knows"),
        (TypeError, {"attention": torch.rand(3, 2)}, "attention must be a PackedSequence, as the input is, got"),
        (TypeError, {"attention": score, "reset": torch.zeros(3, 2)}, "reset must be a PackedSequence, as the input"),
        (ValueError, {"attention": other}, "must be packed as the input is, but its sequences differ in number"),
        (ValueError, {"attention": turned}, "must be packed as the input is"),
        (ValueError, {"attention": score, "reset": score}, "reset must have the dtype torch.bool, got"),
        (TypeError, {}, r"cell augru takes the keyword inputs attention, got \(none\)"),
        (TypeError, {"attention": score, "gap": score}, "got attention, gap"),
    ):
        with pytest.raises(error, match=message):
            layer(x, **given)


def test_a_padded_batch_first_batch_is_packed_and_padded_again() -> None:
    layer, x = gw.LSTM(4, 7, batch_first=True), torch.randn(3, 6, 4)
    packed = pack_padded_sequence(x, torch.tensor([2, 6, 4]), batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(layer(packed)[0], batch_first=True)
    torch.testing.assert_close(y[1], layer(x)[0][1])
    assert not y[0, 2:].any()


def test_a_packed_sequence_under_autocast() -> None:
    layer, rows = gw.GRU(4, 7), [torch.randn(n, 4) for n in (3, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = layer(pack_sequence([row.bfloat16() for row in rows]))
    torch.testing.assert_close(y.data.float(), layer(pack_sequence(rows))[0].data, rtol=0.05, atol=0.02)


GOOD = pack_sequence([torch.randn(n, 4) for n in (3, 2)])
H = torch.randn(1, 2, 7)
BAD = {
    "width": (
        RuntimeError,
        (GOOD._replace(data=GOOD.data[:, 1:]),),
        "GRU: the last dimension of input must be input_size 4, got 3",
    ),
    "dimensions": (
        RuntimeError,
        (GOOD._replace(data=GOOD.data[None]),),
        "GRU: the data of a PackedSequence must have 2 dimensions, got 3",
    ),
    "dtype": (ValueError, (GOOD.double(),), "GRU: input must have the dtype of the weights, torch.float32, got"),
    "rows": (RuntimeError, (GOOD, H[:, 1:]), "hx must have shape (1, 2, 7), got (1, 1, 7)"),
    "state_dimensions": (RuntimeError, (GOOD, H[0]), "hx must have 3 dimensions for batched input, got 2"),
}


@pytest.mark.parametrize(("error", "call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_calls(error: type[Exception], call: tuple[Any, ...], message: str) -> None:
    with pytest.raises(error) as caught:
        gw.GRU(4, 7)(*call)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if error is RuntimeError:
        with pytest.raises(RuntimeError):
            nn.GRU(4, 7)(*call)
