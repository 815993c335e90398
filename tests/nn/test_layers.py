"""Layers of any cell: what torch.nn has no counterpart for, the formula in the state_dict, and bad input."""

from typing import Any

import pytest
import torch
from cells_zoo import ZOO
from torch import nn

import gatewise as gw
from gatewise import cells
from gatewise.backends import eager
from gatewise.nn.formula import formula_key

DTYPE = torch.float64
CELLS = {name: cells.get(name) for name in cells.names() if not cells.get(name).inputs}
CELLS |= {name: made for name, made in ZOO.items() if not made.inputs}


def parameters_of(layer: gw.Recurrent, suffix: str) -> dict[str, torch.Tensor]:
    return {n.removesuffix(suffix): p for n, p in layer.named_parameters() if n.endswith(suffix)}


@pytest.mark.parametrize("made", CELLS.values(), ids=CELLS.keys())
def test_a_stack_is_its_cells_one_after_another(made: gw.Cell) -> None:
    torch.manual_seed(0)
    layer = gw.Recurrent(made, 5, 7, num_layers=2, bidirectional=True, dtype=DTYPE)
    y = x = torch.randn(4, 3, 5, dtype=DTYPE)
    states = [torch.randn(4, 3, 7, dtype=DTYPE) for _ in made.states]
    finals: list[list[torch.Tensor]] = []
    for k in range(2):
        outputs = []
        for d, suffix in enumerate(("", "_reverse")):
            parameters = parameters_of(layer, f"_l{k}{suffix}")
            start = [s[2 * k + d] for s in states]
            out, final = eager.sequence(made, y, {}, start, parameters, reverse=d == 1)
            outputs.append(out)
            finals.append(final)
        y = torch.cat(outputs, -1)
    with gw.backend("eager"):
        found, state = layer(x, tuple(states))
    torch.testing.assert_close(found, y, rtol=1e-12, atol=1e-12)
    for i, value in enumerate((state,) if len(made.states) == 1 else state):
        torch.testing.assert_close(value, torch.stack([f[i] for f in finals]), rtol=1e-12, atol=1e-12)


def test_unbatched_and_batch_first_are_the_same_numbers(backend: str) -> None:
    layer = gw.GRU(5, 7, dtype=DTYPE)
    first = gw.GRU(5, 7, batch_first=True, dtype=DTYPE)
    first.load_state_dict(layer.state_dict())
    x = torch.randn(4, 3, 5, dtype=DTYPE)
    y, h = layer(x)
    y_first, h_first = first(x.transpose(0, 1))
    torch.testing.assert_close(y_first.transpose(0, 1), y)
    torch.testing.assert_close(h_first, h)
    alone, h_alone = first(x[:, 1])
    torch.testing.assert_close(alone, y[:, 1])
    torch.testing.assert_close(h_alone, h[:, 1])


def test_a_chunked_sequence_is_the_whole_one(backend: str) -> None:
    layer = gw.LSTM(5, 7, num_layers=2, dtype=DTYPE)
    x = torch.randn(6, 3, 5, dtype=DTYPE)
    y, (h, c) = layer(x)
    first, state = layer(x[:2])
    second, (h2, c2) = layer(x[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), y)
    torch.testing.assert_close((h2, c2), (h, c))


def test_the_first_gate_blocks_are_in_order_of_use() -> None:
    layer = gw.Recurrent(ZOO["halves"], 5, 7)
    shapes = {n: tuple(p.shape) for n, p in layer.named_parameters()}
    assert shapes == {
        "weight_ih_l0": (14, 5),
        "weight_hh_l0": (14, 7),
        "bias_ih_l0": (14,),
        "bias_hh_l0": (21,),
        "weight_diagonal_l0": (4, 7),
    }


def test_the_gru_of_the_paper_has_one_bias_per_gate() -> None:
    assert [n for n, _ in gw.GRU(5, 7).named_parameters()] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"]


@pytest.mark.parametrize("layer", [gw.Recurrent(ZOO["fading"], 5, 7), gw.Recurrent(cells.gru.pin(z=1), 5, 7)])
def test_layers_without_parameters(layer: gw.Recurrent, backend: str) -> None:
    h = torch.randn(1, 3, 7, requires_grad=True)
    y, final = layer(torch.randn(4, 3, 5), h)
    factor = 0.5 if layer.cell is ZOO["fading"] else 1.0
    torch.testing.assert_close(final, h * factor**4)
    torch.testing.assert_close(y[0], h[0] * factor)
    final.sum().backward()
    torch.testing.assert_close(h.grad, torch.full_like(h, factor**4))


def test_functional_calls_use_the_given_weights(backend: str) -> None:
    layer, x = gw.GRU(5, 7), torch.randn(4, 3, 5)
    zero = {n: torch.zeros_like(p) for n, p in layer.named_parameters()}
    y, _ = torch.func.functional_call(layer, zero, (x,))
    assert not y.any()
    assert layer(x)[0].any()


def test_autocast_hands_over_half_precision(backend: str) -> None:
    model, layer = nn.Linear(3, 5), gw.LSTM(5, 7)
    x = torch.randn(4, 2, 3)
    expected, _ = layer(model(x))
    with torch.autocast("cpu", torch.bfloat16):
        between = model(x)
        assert between.dtype == torch.bfloat16
        zero = torch.zeros(1, 2, 7, dtype=torch.bfloat16)
        found, _ = layer(between, (zero, zero))
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.02)


def test_the_layer_says_what_runs() -> None:
    layer = gw.GRU(5, 7)
    with gw.backend("eager"):
        assert layer.backend == "eager: asked for by name"
    with gw.backend("cpu"):
        assert layer.backend.startswith("cpu/")
    assert gw.GRU(5, 7, dtype=torch.float16).backend.startswith("eager: the cpu backend computes in float32")
    assert gw.Recurrent(ZOO["fading"], 5, 7).backend


def test_representations() -> None:
    assert repr(gw.GRU(5, 7)) == "GRU(5, 7)"
    assert repr(gw.GRU(5, 7, reset_after=True, bias=False)) == "GRU(5, 7, bias=False, reset_after=True)"
    assert repr(gw.Recurrent(cells.mgu, 5, 7, num_layers=2)) == "Recurrent(mgu, 5, 7, num_layers=2)"


# Weights and formulas.


def test_the_formula_travels_with_the_weights() -> None:
    saved = gw.GRU(5, 7, dtype=torch.float64).state_dict()
    assert saved[formula_key(cells.gru)].dtype == torch.float64
    gw.Recurrent(cells.gru, 5, 7).load_state_dict(saved)
    gw.GRU(5, 7).load_state_dict(saved)
    assert "formula" not in "".join(gw.GRU(5, 7, reset_after=True).state_dict())


@pytest.mark.parametrize("strict", [True, False])
def test_torchs_weights_do_not_load_into_another_formula(strict: bool) -> None:
    layer = gw.GRU(5, 7)
    before = [p.clone() for p in layer.parameters()]
    with pytest.raises(RuntimeError, match=r"carries no formula.*this layer computes gru; load .*reset_after=True"):
        layer.load_state_dict(nn.GRU(5, 7).state_dict(), strict=strict)
    assert all(torch.equal(p, q) for p, q in zip(layer.parameters(), before, strict=True))


@pytest.mark.parametrize("theirs", [nn.GRU(5, 7), nn.GRU(5, 7, bias=False), gw.GRU(5, 7, reset_after=True)])
@pytest.mark.parametrize("bias", [True, False])
def test_no_layer_of_torchs_formula_takes_the_papers_weights(theirs: nn.Module, bias: bool) -> None:
    with pytest.raises(RuntimeError, match=r"formula_gru|the weights of cell gru, but this layer computes gru_reset"):
        theirs.load_state_dict(gw.GRU(5, 7, bias=bias).state_dict())


@pytest.mark.parametrize(
    ("saved", "layer"),
    [
        (gw.GRU(5, 7), gw.Recurrent(cells.gru_renew, 5, 7)),
        (gw.Recurrent(cells.light_gru, 5, 7), gw.Recurrent(cells.mgu, 5, 7)),
        (gw.Recurrent(cells.gru, 5, 7), gw.GRU(5, 7, reset_after=True)),
        (gw.Recurrent(cells.rnn, 5, 7, redundant_bias=True), gw.RNN(5, 7, nonlinearity="relu")),
    ],
)
def test_weights_of_one_cell_do_not_load_into_another(saved: gw.Recurrent, layer: gw.Recurrent) -> None:
    wanted = f"the weights of cell {saved.cell.name}, but this layer computes {layer.cell.name}; build the layer"
    with pytest.raises(RuntimeError, match=wanted):
        layer.load_state_dict(saved.state_dict())


def with_text(layer: gw.Recurrent, text: bytes) -> dict[str, Any]:
    """The state_dict as it once was, with the text of the cell as bytes."""
    weights = {name: value for name, value in layer.state_dict().items() if "formula" not in name}
    return {**weights, "_extra_state": torch.tensor(list(text), dtype=torch.uint8)}


def test_the_text_as_bytes_still_loads() -> None:
    layer, saved = gw.GRU(5, 7), with_text(gw.GRU(5, 7), cells.gru.text.encode())
    assert str(layer.load_state_dict(saved)) == "<All keys matched successfully>"
    assert torch.equal(layer.weight_ih_l0, saved["weight_ih_l0"])
    for other in (gw.GRU(5, 7, reset_after=True), gw.Recurrent(cells.gru_renew, 5, 7)):
        with pytest.raises(RuntimeError, match=f"cell gru, but this layer computes {other.cell.name}"):
            other.load_state_dict(saved)


@pytest.mark.parametrize("formula", [b"\xff\xfe", "text", [300], None], ids=str)
def test_a_damaged_formula_gets_a_sentence(formula: Any) -> None:
    saved = with_text(gw.GRU(5, 7), b"")
    saved["_extra_state"] = torch.tensor(list(formula)) if isinstance(formula, bytes) else formula
    with pytest.raises(RuntimeError, match=r"is damaged: it is not the text of a cell|carries no formula"):
        gw.GRU(5, 7).load_state_dict(saved)


def test_formulas_are_kept_in_nested_modules_and_files(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 5), gw.GRU(5, 7))
    saved = model.state_dict()
    key = f"1.{formula_key(cells.gru)}"
    assert key in saved
    torch.save(saved, tmp_path / "weights.pt")
    loaded = torch.load(tmp_path / "weights.pt", weights_only=True)
    model.load_state_dict(loaded)
    assert key in loaded  # the caller's dictionary stays whole
    other = nn.Sequential(nn.Linear(3, 5), gw.Recurrent(cells.gru_renew, 5, 7))
    with pytest.raises(RuntimeError, match="gru_renew"):
        other.load_state_dict(loaded)


def test_wrong_sizes_in_a_state_dict_are_torchs_errors() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        gw.GRU(5, 7).load_state_dict(gw.GRU(5, 8).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        gw.GRU(5, 7).load_state_dict(gw.GRU(5, 7, bias=False).state_dict())


# Bad input: one sentence, which names the argument, what came and what was expected.

X = torch.randn(4, 3, 5)
H = torch.randn(1, 3, 7)
LSTM_HX = "hx of cell lstm must be a tuple of 2 tensors (h, c), got "
BAD_CALLS = {
    "list": (gw.GRU, TypeError, ([1.0],), "GRU: input must be a tensor or a PackedSequence, got list"),
    "dimensions": (gw.GRU, ValueError, (X[0, 0],), "input must have 2 (unbatched) or 3 dimensions, got 1"),
    "width": (
        gw.LSTM,
        RuntimeError,
        (X[..., 1:],),
        "LSTM: the last dimension of input must be input_size 5, got 4",
    ),
    "dtype": (gw.RNN, ValueError, (X.double(),), "dtype of the weights, torch.float32, got torch.float64"),
    "device": (gw.GRU, RuntimeError, (X.to("meta"),), "on the device of the weights, cpu, got meta"),
    "state_list": (gw.GRU, TypeError, (X, "zero"), "hx of cell gru must be a tensor (h), got (str)"),
    "two_states": (gw.GRU, TypeError, (X, (H, H)), "hx of cell gru must be a tensor (h), got (Tensor, Tensor)"),
    "one_state": (gw.LSTM, TypeError, (X, H), LSTM_HX + "(Tensor)"),
    "three_states": (gw.LSTM, TypeError, (X, (H, H, H)), LSTM_HX + "(Tensor, Tensor, Tensor)"),
    "state_none": (gw.LSTM, TypeError, (X, (H, None)), LSTM_HX + "(Tensor, NoneType)"),
    "state_batch": (gw.GRU, RuntimeError, (X, H[:, 1:]), "hx must have shape (1, 3, 7), got (1, 2, 7)"),
    "second_state": (
        gw.LSTM,
        RuntimeError,
        (X, (H, H[..., 1:])),
        "state c of hx must have shape (1, 3, 7), got (1, 3, 6)",
    ),
    "state_dimensions": (gw.GRU, RuntimeError, (X, H[0]), "hx must have 3 dimensions for batched input, got 2"),
    "state_batched": (gw.GRU, RuntimeError, (X[:, 0], H), "hx must have 2 dimensions for unbatched input, got 3"),
    "state_dtype": (
        gw.GRU,
        RuntimeError,
        (X, H.double()),
        "hx must have the dtype of the input, torch.float32, got",
    ),
    "state_device": (
        gw.GRU,
        RuntimeError,
        (X, H.to("meta")),
        "hx must be on the device of the input, cpu, got meta",
    ),
}


@pytest.mark.parametrize(("make", "error", "call", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_calls(make: Any, error: type[Exception], call: tuple[Any, ...], message: str) -> None:
    with pytest.raises(error) as caught:
        make(5, 7)(*call)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_LAYERS = {
    "cell_function": (TypeError, (lambda gate, x, h: h, 5, 7), {}, "cell must be a gatewise cell"),
    "cell_name": (
        TypeError,
        ("gru", 5, 7),
        {},
        "cell must be a gatewise cell (see gatewise.cells and @gatewise.cell), got",
    ),
    "keyword_inputs": (ValueError, (ZOO["decaying"], 5, 7, 2), {}, "num_layers must be 1 for cell decaying"),
    "redundant": (ValueError, (ZOO["halves"], 5, 7), {"redundant_bias": True}, "redundant_bias must be False"),
    "input_size": (ValueError, (cells.gru, 0, 7), {}, "Recurrent: input_size must be greater than zero, got 0"),
    "hidden_size": (ValueError, (cells.gru, 5, -7), {}, "hidden_size must be greater than zero, got -7"),
    "num_layers": (TypeError, (cells.gru, 5, 7, 1.5), {}, "num_layers must be an int, got float"),
    "num_layers_bool": (TypeError, (cells.gru, 5, 7, True), {}, "num_layers must be an int, got bool"),
    "bias": (TypeError, (cells.gru, 5, 7, 1, "no"), {}, "bias must be a bool, got str"),
    "dropout": (
        ValueError,
        (cells.gru, 5, 7),
        {"dropout": 1.5},
        "dropout must be a probability between 0 and 1, got 1.5",
    ),
}


@pytest.mark.parametrize(("error", "arguments", "options", "message"), BAD_LAYERS.values(), ids=BAD_LAYERS.keys())
def test_bad_layers(error: type[Exception], arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(error) as caught:
        gw.Recurrent(*arguments, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
