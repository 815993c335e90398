"""Starting anew within a row: what lies before a reset has no influence, and nothing else changes."""

import itertools
from typing import Any

import pytest
import torch
from comparing import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, packed_states, problem, results, tuple_of
from torch import Tensor

import gatewise as gw

RESET = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0]]).bool()


def laid_out(layer: gw.Recurrent, reset: Tensor) -> Tensor:
    return reset.transpose(0, 1) if layer.batch_first else reset


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("options", STACKS.values(), ids=STACKS.keys())
def test_results_and_gradients_are_those_of_eager(make: Any, options: dict[str, Any]) -> None:
    layer = make(dtype=torch.float64, **options)
    x, states = problem(layer)
    with gw.backend("cpu"):
        found = results(layer, x, states, reset=laid_out(layer, RESET), lengths=[5, 6, 0, 3])
    with gw.backend("eager"):
        expected = results(layer, x, states, reset=laid_out(layer, RESET), lengths=[5, 6, 0, 3])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_pieces_between_resets_are_rows_of_their_own(data: st.DataObject) -> None:
    """In both directions: forward the pieces after the first start from zero, backward those before the last."""
    steps = data.draw(st.integers(1, 10))
    cuts = sorted(data.draw(st.sets(st.integers(0, steps - 1))))
    length = data.draw(st.integers(max(cuts, default=0) + 1, steps))
    reset = torch.zeros(steps, 1, dtype=torch.bool)
    reset[cuts] = True
    layer = gw.LSTM(INPUT, HIDDEN, bidirectional=True)
    x, states = problem(layer, steps, 1)
    y, final = layer(x, packed_states(states), reset=reset, lengths=[length])
    edges = [0, *[c for c in cuts if c > 0], length]
    pieces = []
    for k, (start, stop) in enumerate(itertools.pairwise(edges)):
        forward_kept, backward_kept = k == 0 and 0 not in cuts, stop == length
        kept = torch.tensor([forward_kept, backward_kept])[:, None, None]
        piece, last = layer(x[start:stop], tuple(torch.where(kept, s, 0.0) for s in states))
        pieces.append(piece)
        if stop == length:
            same_bits({"f": torch.stack(final)[:, 0].detach()}, {"f": torch.stack(last)[:, 0].detach()})
        if start == 0:  # and a reset of the first step lies behind it, on the way back
            left = torch.stack(last)[:, 1] * (0 not in cuts)
            same_bits({"b": torch.stack(final)[:, 1].detach() + 0.0}, {"b": left.detach() + 0.0})
    same_bits({"y": y[:length].detach()}, {"y": torch.cat(pieces).detach()})


@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("learned", [False, True])
def test_chunks_give_the_bits_of_the_whole(learned: bool, data: st.DataObject) -> None:
    """Forward the chunks follow one another, on the way back the other way round; rows may end anywhere."""
    steps, rows = data.draw(st.integers(1, 9)), 3
    bounds = [0, *sorted(data.draw(st.lists(st.integers(0, steps), max_size=4))), steps]
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, steps), min_size=rows, max_size=rows)))
    flags = st.lists(st.booleans(), min_size=steps * rows, max_size=steps * rows)
    reset = torch.tensor(data.draw(flags)).reshape(steps, rows)
    layer = gw.LSTM(INPUT, HIDDEN, bidirectional=True, learn_initial_state=learned)
    with torch.no_grad():
        for name in layer._initial_names:
            getattr(layer, name).normal_()
    x, states = problem(layer, steps, rows)
    y, final = layer(x, tuple(states), lengths=lengths, reset=reset)
    for direction, own in enumerate((slice(HIDDEN), slice(HIDDEN, None))):
        carried, parts = tuple(states), []
        chunks = list(itertools.pairwise(bounds))
        for start, stop in chunks[::-1] if direction else chunks:
            inside = (lengths - start).clamp(0, stop - start)
            part, carried = layer(x[start:stop], carried, lengths=inside, reset=reset[start:stop])
            parts.append(part[..., own])
        whole = torch.cat(parts[::-1] if direction else parts)
        same_bits({"y": whole.detach()}, {"y": y[..., own].detach()})
        for mine, other in zip(carried, final, strict=True):
            same_bits({"final": mine[direction].detach()}, {"final": other[direction].detach()})


def test_a_stack_in_chunks() -> None:
    layer = gw.GRU(INPUT, HIDDEN, num_layers=2)
    x, states = problem(layer)
    y, final = layer(x, states[0], reset=RESET)
    carried, parts = states[0], []
    for chunk, cut in zip(x.split([1, 3, 2]), RESET.split([1, 3, 2]), strict=True):
        part, carried = layer(chunk, carried, reset=cut)
        parts.append(part)
    same_bits({"y": torch.cat(parts).detach(), "h": carried.detach()}, {"y": y.detach(), "h": final.detach()})


def test_a_reset_keeps_the_gradient_from_the_past() -> None:
    layer = gw.LSTM(INPUT, HIDDEN, num_layers=2)
    x, states = problem(layer)
    x.requires_grad_()
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[3, 1] = True
    y, _ = layer(x, packed_states(states), reset=reset)
    (dx,) = torch.autograd.grad(y[3:].sum(), x)
    assert not dx[:3, 1].any()
    assert dx[:3, 0].all()
    assert dx[3:, 1].all()


def test_a_nan_before_the_reset_is_forgotten() -> None:
    layer = gw.GRU(INPUT, HIDDEN)
    x, states = problem(layer)
    x[1, 2] = float("nan")
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[2, 2] = True
    y, final = layer(x, states[0], reset=reset)
    assert y[1, 2].isnan().all()
    assert y[2:].isfinite().all()
    assert final.isfinite().all()


def test_no_reset_changes_nothing() -> None:
    layer = gw.GRU(INPUT, HIDDEN, num_layers=2, bidirectional=True, dtype=torch.float64)
    x, states = problem(layer)
    found = results(layer, x, states, reset=torch.zeros(STEPS, BATCH, dtype=torch.bool))
    expected = results(layer, x, states)
    same_bits(
        {n: v for n, v in found.items() if "weight" not in n}, {n: expected[n] for n in found if "weight" not in n}
    )
    for name in dict(layer.named_parameters()):  # whose sums over time are grouped in another way
        torch.testing.assert_close(found[f"d.{name}"], expected[f"d.{name}"], rtol=1e-12, atol=1e-12)


def test_unbatched() -> None:
    layer = gw.LSTM(INPUT, HIDDEN)
    x, _ = problem(layer)
    y, final = layer(x[:, 0], reset=RESET[:, 0])
    whole, last = layer(x, reset=RESET)
    same_bits({"y": y.detach()}, {"y": whole[:, 0].detach()})
    for f, other in zip(tuple_of(final), tuple_of(last), strict=True):
        same_bits({"f": f.detach()}, {"f": other[:, 0].detach()})


def test_torch_traces_it_whole() -> None:
    layer = gw.GRU(INPUT, HIDDEN, learn_initial_state=True)
    x, _ = problem(layer)
    lengths = torch.tensor([4, 6, 0, 1])

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, reset: Tensor, lengths: Tensor) -> Tensor:
            return self.layer(x, reset=reset, lengths=lengths)[0]

    model = Model()
    expected = model(x, RESET, lengths)
    assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(x, RESET, lengths), expected)
    assert torch.equal(torch.export.export(model, (x, RESET, lengths)).module()(x, RESET, lengths), expected)
    rows = torch.func.vmap(lambda one: layer(one, reset=RESET, lengths=lengths)[0])(torch.stack([x, -x]))
    assert torch.equal(rows[0], expected)


BAD: dict[str, tuple[type[Exception], Any, str]] = {
    "list": (TypeError, [[True]], "GRU: reset must be a tensor, got list"),
    "dtype": (ValueError, torch.zeros(STEPS, BATCH), "reset must have the dtype torch.bool, got torch.float32"),
    "shape": (
        RuntimeError,
        torch.zeros(BATCH, STEPS, dtype=torch.bool),
        "reset must have shape (6, 4) or (6, 4, 1), got (4, 6)",
    ),
}


@pytest.mark.parametrize(("error", "reset", "message"), BAD.values(), ids=BAD.keys())
def test_bad_reset(error: type[Exception], reset: Any, message: str) -> None:
    with pytest.raises(error) as caught:
        gw.GRU(INPUT, HIDDEN)(torch.randn(STEPS, BATCH, INPUT), reset=reset)
    assert message in str(caught.value)


def test_with_proj_size_a_reset_past_the_end_of_a_row_leaves_its_state() -> None:
    """As in every other layer: the steps past the end do not count."""
    layer = gw.LSTM(INPUT, HIDDEN, proj_size=2)
    x = torch.randn(STEPS, 2, INPUT)
    reset = torch.zeros(STEPS, 2, dtype=torch.bool)
    reset[4, 0] = True
    _, final = layer(x, reset=reset, lengths=[3, STEPS])
    _, alone = layer(x[:3, :1])
    for whole, part in zip(final, alone, strict=True):
        torch.testing.assert_close(whole[:, :1], part)
