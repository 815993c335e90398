"""Layers of cells with keyword inputs and diagonal weights: layouts, every layer, gradients, refusals."""

from typing import Any

import pytest
import torch
from cells_zoo import ZOO
from comparing import same_bits
from tensor_gate import TensorGate, run_function
from torch import Tensor

import gatewise as gw
from gatewise import cell, cells, ops, sigmoid, tanh

STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6


@cell
def timed(gate, x, h, *, dt: 1, drive="hidden", code=2):
    """Inputs of each width that several layers can share."""
    z = sigmoid(gate.z(x, dt, h))
    return z * h + dt * (1 - z) * tanh(gate.n(x, code, drive, h) + drive)


def inputs_of(dtype: torch.dtype = torch.float64, **widths: int) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {name: torch.rand(STEPS, BATCH, width, dtype=dtype) for name, width in widths.items()}


TIMED = {"dt": 1, "drive": HIDDEN, "code": 2}


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "deep"])
def test_results_and_gradients_are_those_of_eager(options: dict[str, Any]) -> None:
    layer = gw.Recurrent(timed, INPUT, HIDDEN, dtype=torch.float64, **options)
    found = []
    for backend in ("cpu", "eager"):
        leaves = {"x": torch.ones(STEPS, BATCH, INPUT, dtype=torch.float64), **inputs_of(**TIMED)}
        leaves = {name: v.requires_grad_() for name, v in leaves.items()}
        x, *_ = leaves.values()
        with gw.backend(backend):
            y, final = layer(x, **{n: v for n, v in leaves.items() if n != "x"})
        loss = (y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).sin()).sum() + final.square().sum()
        found.append([y, final, *torch.autograd.grad(loss, [*leaves.values(), *layer.parameters()])])
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


MADE = [cells.lstm_peephole, cells.augru, cells.gru_d, timed, ZOO["masked"], ZOO["vectors"]]


@pytest.mark.parametrize("made", MADE, ids=lambda c: c.name)
def test_a_layer_computes_the_function_of_its_cell(made: gw.Cell) -> None:
    layer = gw.Recurrent(made, INPUT, HIDDEN, dtype=torch.float64)
    columns = {"input": INPUT, "hidden": HIDDEN}
    inputs = inputs_of(**{n: columns.get(str(w)) or int(w) for n, w in made.inputs})
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    gate = TensorGate(list(made.input_widths), HIDDEN, torch.float64, seed=0)
    states = [torch.zeros(BATCH, HIDDEN, dtype=torch.float64) for _ in made.states]
    expected, _ = run_function(made, gate, x, inputs, states)
    with torch.no_grad():
        for name, value in gate.packed().items():
            getattr(layer, f"{name}_l0").copy_(value)
        y, _ = layer(x, **inputs)
    torch.testing.assert_close(y, expected.detach().as_subclass(Tensor), rtol=1e-10, atol=1e-12)


def test_layouts() -> None:
    x, inputs = torch.randn(STEPS, BATCH, INPUT), inputs_of(torch.float32, **TIMED)
    layer = gw.Recurrent(timed, INPUT, HIDDEN)
    expected, _ = layer(x, **inputs)
    flat, _ = layer(x, **{**inputs, "dt": inputs["dt"].squeeze(-1)})
    same_bits({"y": flat.detach()}, {"y": expected.detach()})
    row, _ = layer(x[:, 1], **{n: v[:, 1] for n, v in inputs.items()})
    same_bits({"y": row.detach()}, {"y": expected[:, 1].detach()})
    bare, _ = layer(x[:, 1], **{**{n: v[:, 1] for n, v in inputs.items()}, "dt": inputs["dt"][:, 1, 0]})
    same_bits({"y": bare.detach()}, {"y": expected[:, 1].detach()})
    layer.batch_first = True
    first, _ = layer(x.transpose(0, 1), **{n: v.transpose(0, 1) for n, v in inputs.items()})
    same_bits({"y": first.transpose(0, 1).detach()}, {"y": expected.detach()})


def test_every_layer_gets_them_in_its_own_direction() -> None:
    layer = gw.Recurrent(timed, INPUT, HIDDEN, num_layers=2, bidirectional=True)
    x, inputs = torch.randn(STEPS, BATCH, INPUT), inputs_of(torch.float32, **TIMED)
    values, zero = x, [torch.zeros(BATCH, HIDDEN)]
    for k in range(2):
        outputs = []
        for suffix in ("", "_reverse"):
            names = timed.parameter_shapes(1, 1)
            parameters = {n: getattr(layer, f"{n}_l{k}{suffix}") for n in names}
            outputs.append(ops.run(timed, values, inputs, zero, parameters, reverse=bool(suffix))[0])
        values = torch.cat(outputs, -1)
    same_bits({"y": layer(x, **inputs)[0].detach()}, {"y": values.detach()})


def test_names_of_parameters_and_the_state_dict() -> None:
    layer = gw.Recurrent(timed, INPUT, HIDDEN)
    assert layer.weight_dt_l0.shape == (HIDDEN, 1)
    assert layer.weight_drive_l0.shape == (HIDDEN, HIDDEN)
    assert layer.weight_code_l0.shape == (HIDDEN, 2)
    assert gw.Recurrent(cells.lstm_peephole, INPUT, HIDDEN).weight_diagonal_l0.shape == (3, HIDDEN)
    other = gw.Recurrent(timed, INPUT, HIDDEN)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight_dt_l0, layer.weight_dt_l0)


GOOD = {"dt": torch.rand(STEPS, BATCH), "drive": torch.rand(STEPS, BATCH, HIDDEN), "code": torch.rand(STEPS, BATCH, 2)}
BAD: dict[str, tuple[type[Exception], dict[str, Any], str]] = {
    "missing": (TypeError, {"dt": None}, "cell timed takes the keyword inputs dt, drive, code, got drive, code"),
    "superfluous": (TypeError, {"speed": torch.rand(STEPS, BATCH)}, "got dt, drive, code, speed"),
    "width": (
        RuntimeError,
        {"code": torch.rand(STEPS, BATCH, 3)},
        "keyword input code must have shape (5, 3, 2), got (5, 3, 3)",
    ),
    "width 1": (
        RuntimeError,
        {"dt": torch.rand(BATCH, STEPS)},
        "keyword input dt must have shape (5, 3) or (5, 3, 1), got (3, 5)",
    ),
    "dtype": (
        ValueError,
        {"dt": torch.rand(STEPS, BATCH).double()},
        "keyword input dt must have the dtype of the input",
    ),
    "list": (TypeError, {"dt": [0.5]}, "keyword input dt must be a tensor, got list"),
}


@pytest.mark.parametrize(("error", "change", "message"), BAD.values(), ids=BAD.keys())
def test_bad_inputs(error: type[Exception], change: dict[str, Any], message: str) -> None:
    given = {n: v for n, v in {**GOOD, **change}.items() if v is not None}
    with pytest.raises(error) as caught:
        gw.Recurrent(timed, INPUT, HIDDEN)(torch.rand(STEPS, BATCH, INPUT), **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_without_keyword_inputs_takes_none() -> None:
    with pytest.raises(TypeError, match=r"cell gru takes the keyword inputs \(none\), got dt"):
        gw.GRU(INPUT, HIDDEN)(torch.rand(STEPS, BATCH, INPUT), dt=torch.rand(STEPS, BATCH))


def test_cells_that_a_layer_refuses() -> None:
    with pytest.raises(ValueError, match="num_layers must be 1 for cell masked, whose keyword input m is as wide as x"):
        gw.Recurrent(ZOO["masked"], INPUT, HIDDEN, num_layers=2)

    @cell
    def clash(gate, x, h, *, reset=1):
        return reset * tanh(gate.n(x, h))

    with pytest.raises(
        ValueError, match="cell clash names a keyword input reset, which is an argument of every layer or stream"
    ):
        gw.Recurrent(clash, INPUT, HIDDEN)
