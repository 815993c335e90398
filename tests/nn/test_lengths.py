"""Rows of different lengths: each row's results and gradients are those of the row alone; the padding is nothing."""

import copy
from typing import Any

import pytest
import torch
from cells_zoo import ZOO
from comparing import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, packed_states, problem, results, tuple_of
from torch import Tensor

import gatewise as gw

LENGTHS = [4, 6, 0, 1]
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
every_stack = pytest.mark.parametrize("options", STACKS.values(), ids=STACKS.keys())


@every_layer
@every_stack
def test_results_and_gradients_are_those_of_eager_and_of_rows_alone(make: Any, options: dict[str, Any]) -> None:
    layer = make(dtype=torch.float64, **options)
    x, states = problem(layer)
    with gw.backend("cpu"):
        found = results(layer, x, states, lengths=LENGTHS)
    with gw.backend("eager"):
        expected = results(layer, x, states, lengths=LENGTHS)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)
    time, row = (1, 0) if layer.batch_first else (0, 1)
    for b, length in enumerate(LENGTHS):
        alone = x.narrow(row, b, 1).narrow(time, 0, length)
        y, final = layer(alone, packed_states([s[:, b : b + 1] for s in states]))
        mine = found["y"].narrow(row, b, 1)
        same_bits({"y": mine.narrow(time, 0, length)}, {"y": y.detach()})
        assert not mine.narrow(time, length, STEPS - length).any()
        assert not found["d.x"].narrow(row, b, 1).narrow(time, length, STEPS - length).any()
        for k, f in enumerate(tuple_of(final)):
            same_bits({"final": found[f"final{k}"][:, b : b + 1]}, {"final": f.detach()})


@every_stack
@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_what_lies_in_the_padding_does_not_matter(options: dict[str, Any], backend: str) -> None:
    layer = gw.GRU(INPUT, HIDDEN, **options)
    x, states = problem(layer)
    spoilt = x.clone()
    view = spoilt.transpose(0, 1) if layer.batch_first else spoilt
    for b, length in enumerate(LENGTHS):
        view[length:, b] = [float("nan"), float("inf"), -1e30, float("nan")][b]
    with gw.backend(backend):
        found, clean = (results(layer, v, states, lengths=LENGTHS) for v in (spoilt, x))
    same_bits(found, clean)
    assert all(v.isfinite().all() for v in found.values())


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_random_lengths(data: st.DataObject) -> None:
    steps, batch = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 6))
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    layer = gw.LSTM(INPUT, HIDDEN, bidirectional=True)
    x, states = problem(layer, steps, batch)
    y, final = layer(x, packed_states(states), lengths=torch.tensor(lengths, dtype=torch.int32))
    for b, length in enumerate(lengths):
        alone, last = layer(x[:length, b : b + 1], packed_states([s[:, b : b + 1] for s in states]))
        same_bits({"y": y[:length, b].detach()}, {"y": alone[:, 0].detach()})
        assert not y[length:, b].any()
        for f, other in zip(final, last, strict=True):
            same_bits({"f": f[:, b].detach()}, {"f": other[:, 0].detach()})


def test_full_lengths_change_nothing() -> None:
    layer = gw.GRU(INPUT, HIDDEN, num_layers=2, bidirectional=True)
    x, states = problem(layer)
    same_bits(results(layer, x, states, lengths=torch.full([BATCH], STEPS)), results(layer, x, states))


def test_as_a_packed_sequence_and_as_torch() -> None:
    ours = gw.LSTM(INPUT, HIDDEN, 2, bidirectional=True, dtype=torch.float64)
    theirs = torch.nn.LSTM(INPUT, HIDDEN, 2, bidirectional=True, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    x, states = problem(ours)
    lengths = [3, 6, 1, 2]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    y, final = theirs(packed, tuple(states))
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    found, last = ours(x, tuple(states), lengths=lengths)
    torch.testing.assert_close(found, padded)
    torch.testing.assert_close(last, final)


def test_copies_and_a_compiled_model_take_lengths() -> None:
    layer = gw.GRU(INPUT, HIDDEN, batch_first=True)
    x, _ = problem(layer)
    lengths = torch.tensor(LENGTHS)
    expected, _ = layer(x, lengths=lengths)
    same_bits({"y": copy.deepcopy(layer)(x, lengths=lengths)[0].detach()}, {"y": expected.detach()})

    def model(x: Tensor, lengths: Tensor) -> Tensor:
        return layer(x, lengths=lengths)[0].sum()

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, lengths), expected.sum())


BAD: dict[str, tuple[type[Exception], Any, str]] = {
    "above": (ValueError, [1, 7, 0, 2], "GRU: lengths must lie between 0 and 6, the steps of input, but reach 0..7"),
    "below": (ValueError, torch.tensor([1, -1, 0, 2]), "lengths must lie between 0 and 6"),
    "few": (RuntimeError, [1, 2], "lengths must have shape (4,), got (2,)"),
    "shape": (RuntimeError, torch.ones(4, 1, dtype=torch.int64), "lengths must have shape (4,), got (4, 1)"),
    "float": (ValueError, torch.ones(4), "lengths must be integers, got torch.float32"),
    "bool": (ValueError, torch.ones(4, dtype=torch.bool), "lengths must be integers, got torch.bool"),
    "floats": (TypeError, [1.0, 2.0, 3.0, 4.0], "lengths must be a tensor or a sequence of ints"),
    "bools": (TypeError, [True, False, True, True], "lengths must be a tensor or a sequence of ints"),
    "number": (TypeError, 3, "lengths must be a tensor or a sequence of ints, got 3"),
}


@pytest.mark.parametrize(("error", "lengths", "message"), BAD.values(), ids=BAD.keys())
def test_bad_lengths(error: type[Exception], lengths: Any, message: str) -> None:
    with pytest.raises(error) as caught:
        gw.GRU(INPUT, HIDDEN)(torch.randn(STEPS, BATCH, INPUT), lengths=lengths)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_lengths_have_no_place() -> None:
    x = torch.randn(STEPS, INPUT)
    with pytest.raises(ValueError, match="lengths needs batched input"):
        gw.GRU(INPUT, HIDDEN)(x, lengths=[3])


def test_keyword_inputs_past_the_end_do_not_matter() -> None:
    layer = gw.Recurrent(ZOO["keywords"], INPUT, HIDDEN)
    x, states = problem(layer)
    torch.manual_seed(2)
    shape = (STEPS, BATCH)
    inputs = {"dt": torch.rand(shape), "drive": torch.randn(*shape, HIDDEN), "code": torch.randn(*shape, 3)}
    inputs["mask"] = torch.randn(*shape, INPUT)
    spoilt = {name: v.clone() for name, v in inputs.items()}
    for v in spoilt.values():
        for b, length in enumerate(LENGTHS):
            v[length:, b] = float("nan")
    clean = results(layer, x, states, lengths=LENGTHS, **inputs)
    same_bits(results(layer, x, states, lengths=LENGTHS, **spoilt), clean)
