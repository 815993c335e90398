"""gw.replace: torch's recurrent layers inside a model become ours, with the same parameters, results and hooks."""

import copy
from collections.abc import Callable

import pytest
import torch
from layer_problems import flat
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gatewise as gw

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: nn.GRU(4, 7, num_layers=2, bidirectional=True, batch_first=True),
    "gru_double": lambda: nn.GRU(4, 7, bias=False, dtype=torch.float64),
    "lstm": lambda: nn.LSTM(4, 7, num_layers=2, dropout=0.5),
    "lstm_projected": lambda: nn.LSTM(4, 7, proj_size=3),
    "rnn": lambda: nn.RNN(4, 7),
    "rnn_relu": lambda: nn.RNN(4, 7, nonlinearity="relu"),
    "gru_cell": lambda: nn.GRUCell(4, 7),
    "gru_cell_no_bias": lambda: nn.GRUCell(4, 7, bias=False),
    "lstm_cell": lambda: nn.LSTMCell(4, 7),
    "rnn_cell": lambda: nn.RNNCell(4, 7, nonlinearity="relu"),
    "half": lambda: nn.GRU(4, 7, dtype=torch.bfloat16),
}


class Tagger(nn.Module):
    """A model with a recurrent layer in each of the places that a model keeps modules in."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.encoder = nn.GRU(4, 7, batch_first=True)
        self.stack = nn.ModuleList([nn.LSTM(7, 7, batch_first=True), nn.Sequential(nn.RNN(7, 7, batch_first=True))])
        self.step = nn.LSTMCell(7, 7)
        self.again = self.encoder

    def forward(self, words: Tensor) -> Tensor:
        y, _ = self.encoder(self.embed(words))
        y, _ = self.stack[0](y)
        y, _ = self.stack[1](y)
        h, _ = self.step(y[:, -1])
        return h


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_itself(make: Callable[[], nn.Module], training: bool) -> None:
    old = make().train(training)
    report = gw.replace(old)
    new = report.model
    assert isinstance(new, getattr(gw, type(old).__name__))
    assert new.training == old.training == training
    assert all(p is q for p, q in zip(new.parameters(), old.parameters(), strict=True))
    assert repr(new).startswith(repr(old)[:-1].split(", nonlinearity")[0])
    assert report.left == ()
    (row,) = report.replaced
    assert row.name == "(model)"
    assert row.formula == new.cell.name
    assert row.difference is not None
    assert row.difference < 0.05
    dtype = next(old.parameters()).dtype
    x = torch.randn(*((3, 4) if "Cell" in repr(old) else (3, 2, 4)), dtype=dtype)
    for expected, value in zip(flat(old.eval()(x)), flat(new.eval()(x)), strict=True):
        torch.testing.assert_close(value, expected, rtol=0.05 if dtype == torch.bfloat16 else 1e-4, atol=1e-2)


def test_every_place_of_a_model() -> None:
    model = Tagger()
    words, untouched = torch.randint(11, (3, 5)), copy.deepcopy(model)
    names = [n for n, _ in model.named_parameters()]
    report = gw.replace(model)
    assert report.model is model
    assert [r.name for r in report.replaced] == ["encoder", "stack.0", "stack.1.0", "step"]
    assert [r.formula for r in report.replaced] == ["gru_reset_after", "lstm", "rnn", "lstm"]
    assert model.again is model.encoder
    assert isinstance(model.encoder, gw.GRU)
    assert isinstance(model.stack[1][0], gw.RNN)
    assert [n for n, _ in model.named_parameters()] == names
    torch.testing.assert_close(model(words), untouched(words), rtol=1e-4, atol=1e-5)
    untouched.load_state_dict(model.state_dict())


def test_an_optimizer_goes_on_with_the_same_parameters() -> None:
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.encoder.weight_hh_l0.clone()
    gw.replace(model)
    model(torch.randint(11, (3, 5))).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.encoder.weight_hh_l0, before)


def test_hooks_and_their_handles_move_and_do_not_see_the_check() -> None:
    model, calls = nn.Sequential(nn.GRU(4, 7)), []
    handle = model[0].register_forward_hook(lambda module, args, result: calls.append(type(module)))
    model[0].register_forward_pre_hook(lambda module, args: calls.append("before"))
    gw.replace(model)
    assert calls == []
    model(torch.randn(3, 2, 4))
    assert calls == ["before", gw.GRU]
    handle.remove()
    model(torch.randn(3, 2, 4))
    assert calls == ["before", gw.GRU, "before"]


def test_neither_the_generator_nor_the_gradients_are_touched() -> None:
    model = Tagger()
    state = torch.get_rng_state()
    gw.replace(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


class Own(nn.GRU):
    """A subclass, which might compute anything."""


def test_what_is_not_exactly_torchs_is_left_and_said() -> None:
    model = nn.ModuleDict({n: nn.GRU(4, 7) for n in ("plain", "patched", "normed", "buffered")} | {"own": Own(4, 7)})
    model["patched"].forward = lambda x: x
    parametrizations.weight_norm(model["normed"], "weight_hh_l0")
    model["buffered"].register_buffer("mean", torch.zeros(4))
    kept = {n: model[n] for n in model if n != "plain"}
    report = gw.replace(model)
    assert [r.name for r in report.replaced] == ["plain"]
    assert all(model[n] is layer for n, layer in kept.items())
    reasons = dict(report.left)
    assert list(reasons) == ["patched", "normed", "buffered", "own"]
    assert reasons["own"] == "Own is a subclass of torch's layer, which may compute something else"
    assert "forward of its own" in reasons["patched"]
    assert "subclass" in reasons["normed"]
    assert "buffers" in reasons["buffered"]
    assert "left own: Own is a subclass" in str(report)


def test_a_layer_with_other_results_is_not_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    from gatewise.backends import eager

    monkeypatch.setitem(eager.TENSOR_FUNCTIONS, "tanh", torch.sigmoid)
    model = nn.Sequential(nn.GRU(4, 7))
    with gw.backend("eager"):
        report = gw.replace(model)
    assert type(model[0]) is nn.GRU
    ((name, reason),) = report.left
    assert name == "0"
    assert reason.startswith("the results differ by ")
    assert str(report).startswith("no layer replaced\nleft 0: the results differ by ")


def test_weights_that_are_not_finite_compare_by_where_they_are() -> None:
    layer = nn.GRU(4, 7)
    nn.init.constant_(layer.bias_ih_l0, torch.nan)
    assert gw.replace(layer).replaced[0].difference == 0


def test_weights_without_values_are_swapped_unchecked() -> None:
    report = gw.replace(nn.LSTM(4, 7, device="meta"))
    assert report.replaced[0].difference is None
    assert "not checked" in str(report)


def test_the_report_is_a_table() -> None:
    lines = str(gw.replace(Tagger())).splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert len(lines) == 5
    for line, name in zip(lines[1:], ["encoder", "stack.0", "stack.1.0", "step"], strict=True):
        assert line.startswith(name)
        assert line.endswith(("µs", "ms"))
    assert str(gw.replace(nn.Linear(2, 3))) == "no layer replaced"


def test_no_module_is_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"replace: model must be a torch.nn.Module, got list"):
        gw.replace([nn.GRU(4, 7)])  # type: ignore[arg-type]
