"""The reference against each cell's own Python function run on tensors, in float64; and that planted faults show."""

from collections.abc import Callable, Mapping

import pytest
import torch
from cells_zoo import ZOO
from kernel_cells import BUILT_IN
from tensor_gate import TensorGate, make_inputs, make_parameters, run_function
from torch import Tensor

import gatewise as gw
from gatewise import Cell, cell, cells, ops
from gatewise.backends import eager
from gatewise.compiler.expression import order

ALL = {**BUILT_IN, **ZOO}
DTYPE = torch.float64


def compare(
    made: Cell,
    steps: int = 4,
    batch: int = 3,
    input_size: int = 5,
    hidden_size: int = 7,
    *,
    reverse: bool = False,
    fault: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] = dict,
) -> None:
    """Outputs, final states and every gradient of eager (given ``fault`` of the parameters) and of the function."""
    x, inputs, states = make_inputs(made, steps, batch, input_size, hidden_size, DTYPE)
    gate = TensorGate(["x", *inputs], hidden_size, DTYPE, seed=0)
    y, final = run_function(made, gate, x, inputs, states, reverse)
    parameters = gate.packed()
    expected_shapes = {n: torch.Size(s) for n, s in made.parameter_shapes(input_size, hidden_size).items()}
    assert {n: p.shape for n, p in parameters.items()} == expected_shapes
    results = [(y, final), eager.sequence(made, x, inputs, states, fault(parameters), reverse=reverse)]
    leaves = [x, *inputs.values(), *states, *gate.weights.values()]
    compared = []
    for outputs, finals in results:
        values = [outputs, *finals]
        loss = sum(
            (v * (k + torch.arange(v.numel(), dtype=DTYPE)).sin().reshape(v.shape)).sum() for k, v in enumerate(values)
        )
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else []
        compared.append([*values, *gradients])
    for expected, found in zip(*compared, strict=True):
        if expected is None or found is None:  # not used: no gradient, or one of zeros
            assert all(v is None or not v.any() for v in (expected, found))
            continue
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("made", ALL.values(), ids=ALL.keys())
def test_eager_is_the_cells_function(made: Cell, reverse: bool) -> None:
    compare(made, reverse=reverse)


@pytest.mark.parametrize("name", ["gru", "lstm", "keywords", "masked", "halves"])
@pytest.mark.parametrize(
    "sizes",
    [{"hidden_size": h} for h in (1, 7, 63, 65)] + [{"batch": b} for b in (1, 17)] + [{"steps": 1}, {"input_size": 1}],
    ids=str,
)
def test_sizes(name: str, sizes: dict[str, int]) -> None:
    compare(ALL[name], **sizes)


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("made", ALL.values(), ids=ALL.keys())
def test_no_steps_and_no_rows(made: Cell, steps: int, batch: int) -> None:
    x, inputs, states = make_inputs(made, steps, batch, 5, 7, DTYPE)
    parameters = make_parameters(made, 5, 7, DTYPE)
    y, final = eager.sequence(made, x, inputs, states, parameters)
    assert y.shape == (steps, batch, 7)
    assert [f.shape for f in final] == [s.shape for s in states]
    if steps == 0:
        assert all(torch.equal(f, s) for f, s in zip(final, states, strict=True))
    if y.requires_grad:
        y.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("made", ALL.values(), ids=ALL.keys())
def test_values_keep_their_dtype(made: Cell, dtype: torch.dtype) -> None:
    x, inputs, states = make_inputs(made, 3, 2, 5, 7, dtype)
    y, final = eager.sequence(made, x, inputs, states, make_parameters(made, 5, 7, dtype))
    assert {v.dtype for v in (y, *final)} == {dtype}


def test_a_choice_between_numbers_has_the_precision_of_the_cell() -> None:
    @cell
    def chooser(gate, x, h):
        return h * 0 + gw.where(h > 0, 0.1, 0.2)

    x, _, states = make_inputs(chooser, 2, 3, 5, 7, DTYPE)
    y, _ = eager.sequence(chooser, x, {}, states, {})
    assert set(y.unique().tolist()) <= {0.1, 0.2}


def test_redundant_bias_is_added() -> None:
    x, _, states = make_inputs(cells.lstm, 4, 3, 5, 7, DTYPE)
    parameters = make_parameters(cells.lstm, 5, 7, DTYPE)
    second = torch.randn(4 * 7, dtype=DTYPE)
    both = eager.sequence(cells.lstm, x, {}, states, {**parameters, "bias_hh": second})
    summed = eager.sequence(cells.lstm, x, {}, states, {**parameters, "bias_ih": parameters["bias_ih"] + second})
    torch.testing.assert_close(both, summed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("made", ALL.values(), ids=ALL.keys())
def test_biases_may_be_absent(made: Cell) -> None:
    x, inputs, states = make_inputs(made, 4, 3, 5, 7, DTYPE)
    parameters = make_parameters(made, 5, 7, DTYPE)
    without = {n: p for n, p in parameters.items() if not n.startswith("bias")}
    zero = {n: torch.zeros_like(p) if n.startswith("bias") else p for n, p in parameters.items()}
    found = eager.sequence(made, x, inputs, states, without)
    torch.testing.assert_close(found, eager.sequence(made, x, inputs, states, zero), rtol=1e-12, atol=1e-12)


def test_second_derivatives() -> None:
    made = ZOO["two_speeds"]
    x, _, states = make_inputs(made, 3, 2, 2, 3, DTYPE)
    parameters = make_parameters(made, 2, 3, DTYPE)
    leaves = [x, *states, *parameters.values()]

    def run(*values: Tensor) -> Tensor:
        named = dict(zip(parameters, values[1 + len(states) :], strict=True))
        y, final = eager.sequence(made, values[0], {}, values[1 : 1 + len(states)], named)
        return torch.cat([y.flatten(), *(f.flatten() for f in final)])

    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


def test_given_operands_are_not_computed_again() -> None:
    made = ZOO["masked"]
    x, inputs, states = make_inputs(made, 4, 3, 5, 7, DTYPE)
    parameters = make_parameters(made, 5, 7, DTYPE)
    nodes = [node for use in made.uses for _, node in use.inputs]
    leaves = {"x": x, **inputs}
    known = {n: leaves[n.attr] for root in nodes for n in order([root], ()) if n.op == "input"}
    operands = dict(zip(nodes, eager.evaluate(nodes, known), strict=True))
    found = eager.interpret(made, operands, {}, states, parameters, steps=4)
    torch.testing.assert_close(found, eager.sequence(made, x, inputs, states, parameters))


def test_the_operator_runs_eager_when_asked() -> None:
    made = ZOO["keywords"]
    x, inputs, states = make_inputs(made, 4, 3, 5, 7, torch.float32)
    parameters = make_parameters(made, 5, 7, torch.float32)
    with gw.backend("eager"):
        found = ops.run(made, x, inputs, states, parameters, reverse=True)
    expected = eager.sequence(made, x, inputs, states, parameters, reverse=True)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1][0], expected[1][0])


# Planted faults: the comparison above must see each of them.


def swapped(parameter: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def fault(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        first, second, *rest = parameters[parameter].split(7)
        return {**parameters, parameter: torch.cat([second, first, *rest])}

    return fault


def dropped(parameter: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda parameters: {n: p for n, p in parameters.items() if n != parameter}


def transposed(parameter: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def fault(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**parameters, parameter: torch.cat([block.T for block in parameters[parameter].split(7)])}

    return fault


def exchanged(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**parameters, "weight_diagonal": parameters["weight_diagonal"].flip(0)}


FAULTS = {
    "swapped_gates": ("gru", swapped("weight_ih")),
    "swapped_recurrent_gates": ("gru", swapped("weight_hh")),
    "swapped_biases": ("lstm", swapped("bias_ih")),
    "dropped_bias": ("gru", dropped("bias_ih")),
    "dropped_second_bias": ("gru_reset_after", dropped("bias_hh")),
    "transposed_recurrence": ("rnn", transposed("weight_hh")),
    "transposed_keyword_weight": ("keywords", transposed("weight_drive")),
    "exchanged_peepholes": ("peephole_lstm", exchanged),
}


@pytest.mark.parametrize(("name", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_planted_faults_are_seen(name: str, fault: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    compare(ALL[name])
    with pytest.raises(AssertionError, match="not close"):
        compare(ALL[name], fault=fault)


@pytest.mark.parametrize(("right", "wrong"), [("gru", "gru_renew"), ("rnn", "rnn_relu"), ("lstm", "lstm_wrong")])
def test_another_equation_is_seen(right: str, wrong: str) -> None:
    @cell
    def lstm_wrong(gate, x, h, c):
        i = gw.sigmoid(gate.i(x, h))
        f = gw.sigmoid(gate.f(x, h))
        g = gw.tanh(gate.g(x, h))
        o = gw.sigmoid(gate.o(x, h))
        c = i * c + f * g
        return o * gw.tanh(c), c

    other = ALL.get(wrong, lstm_wrong)
    mixed = Cell(right, "", other.states, other.inputs, other.outputs, other.affines, function=ALL[right].function)
    with pytest.raises(AssertionError, match="not close"):
        compare(mixed)
