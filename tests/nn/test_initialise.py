"""How parameters start, and initial states that are learned."""

from functools import partial
from typing import Any

import pytest
import torch
from comparing import same_bits
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, packed_states, problem, tuple_of

import gatewise as gw
from gatewise import cells
from gatewise.nn.initialise import chrono

every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
every_stack = pytest.mark.parametrize("options", STACKS.values(), ids=STACKS.keys())


def test_torch_is_the_default() -> None:
    torch.manual_seed(0)
    ours = gw.LSTM(INPUT, HIDDEN, 2)
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(INPUT, HIDDEN, 2)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


@every_layer
def test_orthogonal(make: Any) -> None:
    layer = make(num_layers=2, initialise="orthogonal", dtype=torch.float64)
    for k in range(2):
        for block in getattr(layer, f"weight_hh_l{k}").detach().split(HIDDEN):
            torch.testing.assert_close(block @ block.T, torch.eye(HIDDEN, dtype=torch.float64))
        assert not getattr(layer, f"bias_ih_l{k}").any()
    bound = (6 / (INPUT + HIDDEN)) ** 0.5
    assert 0.5 * bound < layer.weight_ih_l0.abs().max() <= bound


def bias(layer: gw.Recurrent, gate: str) -> torch.Tensor:
    k = layer.cell.rows("bias_ih").index(gate)
    block = slice(k * layer.hidden_size, (k + 1) * layer.hidden_size)
    total = layer.bias_ih_l0[block]
    return total + layer.bias_hh_l0[block] if layer.redundant_bias else total


@pytest.mark.parametrize(
    ("layer", "keep", "renew"),
    [
        (partial(gw.LSTM, 3, 200), "f", "i"),
        (partial(gw.Recurrent, cells.lstm_peephole, 3, 200), "f", "i"),
        (partial(gw.Recurrent, cells.lstm_coupled, 3, 200), "f", None),
        (partial(gw.GRU, 3, 200), "z", None),
        (partial(gw.GRU, 3, 200, reset_after=True), "z", None),
        (partial(gw.Recurrent, cells.light_gru, 3, 200), "z", None),
        (partial(gw.Recurrent, cells.gru_renew, 3, 200), None, "z"),
        (partial(gw.Recurrent, cells.mgu, 3, 200), None, "f"),
        (partial(gw.Recurrent, cells.augru, 3, 200), None, "z"),
    ],
    ids=lambda v: v.args[0].name if isinstance(v, partial) and isinstance(v.args[0], gw.Cell) else None,
)
def test_chrono_sets_the_gates_that_keep_and_renew(layer: Any, keep: str | None, renew: str | None) -> None:
    made = layer(initialise=partial(chrono, longest=50))
    values = [bias(made, keep)] if keep else []
    values += [-bias(made, renew)] if renew else []
    for value in values:
        spans = value.exp()
        assert spans.min() + 1e-4 >= 1
        assert spans.max() <= 49 + 1e-3
        assert 20 < spans.mean() < 30
        torch.testing.assert_close(value, values[0])
    assert gw.GRU(3, 4, initialise="chrono").bias_ih_l0.isfinite().all()


def test_chrono_refuses() -> None:
    with pytest.raises(ValueError, match="chrono needs a gate that keeps the state, but cell rnn has none"):
        gw.RNN(3, 4, initialise="chrono")
    with pytest.raises(ValueError, match="chrono initialises biases, but bias is False"):
        gw.GRU(3, 4, bias=False, initialise="chrono")
    with pytest.raises(ValueError, match="longest must be above 2 steps, got 2"):
        gw.GRU(3, 4, initialise=partial(chrono, longest=2))
    with pytest.raises(ValueError, match="initialise must be one of torch, orthogonal, chrono, remember, "):
        gw.GRU(3, 4, initialise=3)


@pytest.mark.parametrize("how", [{"f": 1.5, "i": -0.5}, "f=1.5, i=-0.5"])
@pytest.mark.parametrize("make", [gw.LSTM, partial(gw.Recurrent, cells.lstm)])
def test_biases_by_gate(make: Any, how: Any) -> None:
    layer = make(3, 5, 2, bidirectional=True, initialise=how)
    assert layer.bias_ih_l1_reverse is not None
    assert bias(layer, "f").tolist() == [1.5] * 5
    assert bias(layer, "i").tolist() == [-0.5] * 5
    assert bias(layer, "g").abs().max() > 0


def test_the_forget_gate_starts_open() -> None:
    assert bias(gw.LSTM(3, 5, forget_bias=1.0), "f").tolist() == [1.0] * 5
    assert bias(gw.LSTM(3, 5, initialise="remember"), "i").tolist() == [-1.0] * 5
    assert bias(gw.GRU(3, 5, initialise="remember"), "z").tolist() == [1.0] * 5
    assert bias(gw.Recurrent(cells.mgu, 3, 5, initialise="remember"), "f").tolist() == [-1.0] * 5
    with pytest.raises(ValueError, match="forget_bias stands for initialise"):
        gw.LSTM(3, 5, forget_bias=1.0, initialise="chrono")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"q": 1.0}, "names a gate 'q'; those of cell gru with a bias: r, z, n"),
        ({"z": "one"}, "the bias of gate 'z' must be a finite number, got 'one'"),
        ({"z": float("nan")}, "must be a finite number, got nan"),
        ("z=one", "initialise must be one of torch"),
        ("", "initialise must be one of torch"),
        ({}, "initialise must be one of torch"),
    ],
)
def test_bad_biases_by_gate(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gw.GRU(3, 5, initialise=how)
    with pytest.raises(ValueError, match="initialise sets biases, but bias is False"):
        gw.GRU(3, 5, bias=False, initialise={"z": 1.0})


def learned(make: Any, **options: Any) -> gw.Recurrent:
    layer = make(learn_initial_state=True, **options)
    assert not any(getattr(layer, name).any() for name in layer._initial_names)
    torch.manual_seed(4)
    with torch.no_grad():
        for name in layer._initial_names:
            getattr(layer, name).normal_()
    return layer


@every_layer
@every_stack
def test_a_learned_state_is_that_state_given(make: Any, options: dict[str, Any]) -> None:
    layer = learned(make, dtype=torch.float64, **options)
    x, given = problem(layer)
    starts = [getattr(layer, name) for name in layer._initial_names]
    assert [tuple(s.shape) for s in starts] == [(len(given), HIDDEN)] * layer.num_layers * layer.num_directions
    states = [torch.stack([s[k] for s in starts])[:, None].expand(-1, BATCH, -1) for k in range(len(given))]
    y, final = layer(x)
    expected, last = layer(x, packed_states(states))
    same_bits({"y": y.detach()}, {"y": expected.detach()})
    grads = [torch.autograd.grad(v.sin().sum(), [*layer.parameters()]) for v in (y, expected)]
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other)
    for f, other in zip(tuple_of(final), tuple_of(last), strict=True):
        same_bits({"f": f.detach()}, {"f": other.detach()})
    other_states, _ = layer(x, packed_states(given))
    assert not torch.equal(other_states, y)


@every_stack
def test_a_reset_goes_to_the_learned_state(options: dict[str, Any]) -> None:
    layer = learned(LAYERS["lstm"], dtype=torch.float64, **options)
    x, given = problem(layer)
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[2], reset[4, 1] = True, True
    results = []
    for backend in ("cpu", "eager"):
        with gw.backend(backend):
            y, _ = layer(x, packed_states(given), reset=reset.T if layer.batch_first else reset)
        results.append([y, *torch.autograd.grad(y.sin().sum(), [*layer.parameters()])])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)
    if not options:
        expected, _ = layer(x[2:4])
        torch.testing.assert_close(results[0][0][2:4], expected)


def test_packed_sequences_and_the_state_dict() -> None:
    layer = learned(LAYERS["gru"])
    x, _ = problem(layer)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 6, 1, 3]), enforce_sorted=False)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0])
    same_bits({"y": y.detach()}, {"y": layer(x, lengths=[2, 6, 1, 3])[0].detach()})
    other = LAYERS["gru"](learn_initial_state=True)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.h_0_l0, layer.h_0_l0)
    assert "learn_initial_state=True" in repr(layer)


def test_what_learns_no_state() -> None:
    with pytest.raises(ValueError, match="learn_initial_state is not available with proj_size"):
        gw.LSTM(3, 4, proj_size=2, learn_initial_state=True)
    with pytest.raises(TypeError, match="learn_initial_state must be a bool, got str"):
        gw.GRU(3, 4, learn_initial_state="yes")
