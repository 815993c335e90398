"""The built-in cells and what the literature says of them; pinned gates. U1 to U8 number the statements."""

import keyword
import math

import pytest
import torch
from cells_zoo import ZOO
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cells as random_cells
from tensor_gate import make_inputs, make_parameters
from torch import Tensor

from gatewise import Cell, cell, cells, sigmoid, tanh
from gatewise.backends import eager
from gatewise.compiler import parse
from gatewise.compiler.expression import Node, postorder

INPUT, HIDDEN = 5, 7
SIZES = {"input": INPUT, "hidden": HIDDEN}
DTYPE = torch.float64
GATES = {
    "gru": "rzn",
    "gru_renew": "rzn",
    "gru_reset_after": "rzn",
    "lstm": "ifgo",
    "lstm_coupled": "fgo",
    "lstm_peephole": "ifgo",
    "rnn": "n",
    "rnn_relu": "n",
    "mgu": "fn",
    "light_gru": "zn",
    "augru": "rzn",
    "gru_d": "drzn",
}


def select(parameters: dict[str, Tensor], whole: Cell, part: Cell) -> dict[str, Tensor]:
    """The blocks of a cell's parameters that belong to another cell made of some of its gates."""
    found = {}
    for name in part.parameter_shapes(INPUT, HIDDEN):
        if name != "weight_diagonal":
            blocks = dict(zip(whole.rows(name), parameters[name].split(HIDDEN), strict=True))
            found[name] = torch.cat([blocks[gate] for gate in part.rows(name)])
    return found


def forced(
    made: Cell, x: Tensor, states: list[Tensor], parameters: dict[str, Tensor], gates: dict[str, float]
) -> Tensor:
    """The first state over time when the gates' values are overwritten by constants: what pinning means."""
    affine = eager.Affine(made, parameters, HIDDEN)
    constants = {made.gate_value(gate): value for gate, value in gates.items()}
    outputs = []
    for row in x:
        leaves = {"x": row, **dict(zip(made.states, states, strict=True))}
        values = {n: leaves[n.attr] for n in postorder(made.outputs) if n.op in ("input", "state")}
        values |= {n: torch.full((x.shape[1], HIDDEN), v, dtype=DTYPE) for n, v in constants.items()}

        def use(node: Node, values: dict = values) -> Tensor:
            return affine(node, values, affine.input_half(node, values))

        states = eager.evaluate(made.outputs, values, use)
        outputs.append(states[0])
    return torch.stack(outputs)


def test_names_and_gates() -> None:
    assert cells.names() == list(GATES)
    for name, gates in GATES.items():
        assert cells.get(name) is getattr(cells, name)
        assert "".join(cells.get(name).gates) == gates


@pytest.mark.parametrize("name", GATES)
def test_every_cell_names_its_paper(name: str) -> None:
    assert any(year.strip(".,;:()").isdigit() and len(year) >= 4 for year in cells.get(name).source.split())


@pytest.mark.parametrize("name", ["grü", "", "names", "Cell", "sigmoid", None, 3, ["gru"]])
def test_unknown_cell(name: object) -> None:
    with pytest.raises(ValueError, match=r"cell must be one of gru, gru_renew, .* got"):
        cells.get(name)


@pytest.mark.parametrize(
    ("name", "groups"),
    [("gru", 3), ("gru_renew", 3), ("lstm", 4), ("lstm_coupled", 3), ("rnn", 1), ("mgu", 2), ("light_gru", 2)],
)
def test_groups_of_parameters(name: str, groups: int) -> None:
    assert cells.get(name).parameter_count(40, 256) == groups * (256 * 40 + 256 * 256 + 256)


def test_reset_after_has_one_more_bias() -> None:
    more = cells.gru_reset_after.parameter_count(40, 256) - cells.gru.parameter_count(40, 256)
    assert more == 256


@pytest.mark.parametrize("name", ["gru", "gru_renew", "gru_reset_after"])
def test_u1_u2_gates_in_0_1_and_candidate_in_minus_1_1(name: str) -> None:
    made = cells.get(name)
    x, _, states = make_inputs(made, 1, 200, INPUT, HIDDEN, DTYPE)
    parameters = {n: 3 * p for n, p in make_parameters(made, INPUT, HIDDEN, DTYPE).items()}
    affine = eager.Affine(made, parameters, HIDDEN)
    values = {n: x[0] if n.op == "input" else states[0] for n in postorder(made.outputs) if n.op in ("input", "state")}
    eager.evaluate(made.outputs, values, lambda n: affine(n, values, affine.input_half(n, values)))
    for gate, low in (("r", 0.0), ("z", 0.0), ("n", -1.0)):
        value = values[made.gate_value(gate)]
        assert low <= value.min() < low + 0.01
        assert 0.99 < value.max() <= 1.0


def test_u2_the_closed_reset_gate_drops_the_past_of_the_candidate() -> None:
    closed, opened = cells.gru.pin(r=0), cells.gru.pin(r=1)
    assert closed.equations().splitlines()[1] == "n = tanh(W_n x + b_n)"
    assert opened.equations().splitlines()[1] == "n = tanh(W_n x + U_n h + b_n)"


def test_u4_renewing_is_keeping_with_the_update_gate_negated() -> None:
    x, _, states = make_inputs(cells.gru, 6, 3, INPUT, HIDDEN, DTYPE)
    own = make_parameters(cells.gru, INPUT, HIDDEN, DTYPE)
    sign = torch.ones(3 * HIDDEN, dtype=DTYPE)
    sign[HIDDEN : 2 * HIDDEN] = -1
    results = []
    for made, factor in ((cells.gru, torch.ones_like(sign)), (cells.gru_renew, sign)):
        converted = {n: p * (factor[:, None] if p.dim() == 2 else factor) for n, p in own.items()}
        y, final = eager.sequence(made, x, {}, states, converted)
        loss = (y * torch.arange(y.numel(), dtype=DTYPE).reshape(y.shape).sin()).sum() + final[0].square().sum()
        results.append([y, *final, *torch.autograd.grad(loss, [x, *states, *own.values()])])
    for kept, renewed in zip(*results, strict=True):
        torch.testing.assert_close(renewed, kept, rtol=1e-12, atol=1e-13)


def test_u7_the_plain_rnn_is_a_gru_with_open_reset_and_full_renewal() -> None:
    pinned = cells.gru.pin(r=1, z=0)
    assert pinned.body() == cells.rnn.body()
    assert pinned.parameter_shapes(INPUT, HIDDEN) == cells.rnn.parameter_shapes(INPUT, HIDDEN)
    assert cells.gru_renew.pin(r=1, z=1).body() == cells.rnn.body()
    assert cells.mgu.pin(f=1).body() == cells.rnn.body()
    assert cells.light_gru.pin(z=0).body() == cells.rnn_relu.body()


@pytest.mark.parametrize(
    "pinned", [cells.gru.pin(z=1), cells.gru_reset_after.pin(z=1), cells.gru_renew.pin(z=0)], ids=lambda c: c.name
)
def test_u8_a_keeping_update_gate_carries_the_state_across_the_span(pinned: Cell) -> None:
    x, _, states = make_inputs(pinned, 50, 3, INPUT, HIDDEN, DTYPE)
    y, (final,) = eager.sequence(pinned, x, {}, states, {})
    assert torch.equal(final, states[0])
    assert torch.equal(y, states[0].expand_as(y))
    assert pinned.parameter_count(INPUT, HIDDEN) == 0


def test_augru_without_attention_keeps_and_with_full_attention_renews_as_the_gru() -> None:
    x, _, states = make_inputs(cells.augru, 6, 3, INPUT, HIDDEN, DTYPE)
    parameters = make_parameters(cells.augru, INPUT, HIDDEN, DTYPE)
    blind, _ = eager.sequence(cells.augru, x, {"attention": torch.zeros(6, 3, 1, dtype=DTYPE)}, states, parameters)
    assert torch.equal(blind, states[0].expand_as(blind))
    full, _ = eager.sequence(cells.augru, x, {"attention": torch.ones(6, 3, 1, dtype=DTYPE)}, states, parameters)
    sign = torch.ones(3 * HIDDEN, dtype=DTYPE)
    sign[HIDDEN : 2 * HIDDEN] = -1  # torch's z keeps
    kept = {n: p * (sign[: len(p), None] if p.dim() == 2 else sign[: len(p)]) for n, p in parameters.items()}
    kept["bias_hh"] = parameters["bias_hh"]
    y, _ = eager.sequence(cells.gru_reset_after, x, {}, states, kept)
    torch.testing.assert_close(full, y, rtol=1e-12, atol=1e-13)


def test_the_peephole_lstm_without_peepholes_is_the_lstm() -> None:
    x, _, states = make_inputs(cells.lstm, 6, 3, INPUT, HIDDEN, DTYPE)
    parameters = make_parameters(cells.lstm, INPUT, HIDDEN, DTYPE)
    none = {"weight_diagonal": torch.zeros(3, HIDDEN, dtype=DTYPE)}
    y, _ = eager.sequence(cells.lstm_peephole, x, {}, states, parameters | none)
    expected, _ = eager.sequence(cells.lstm, x, {}, states, parameters)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-13)


def test_pinning_the_lstm() -> None:
    coupled = cells.lstm.pin(i=0, f=1)
    assert coupled.equations().splitlines()[1:] == ["h' = o ⊙ tanh(c)", "c' = c"]
    assert coupled.gates == ("o",)


CASES = [
    ("gru", {"r": 0.0}),
    ("gru", {"r": 1.0}),
    ("gru", {"r": 0.25}),
    ("gru", {"z": 0.5}),
    ("gru", {"n": -0.5}),
    ("gru", {"r": 0.5, "n": 1.0}),
    ("gru_reset_after", {"r": 0.0}),
    ("gru_reset_after", {"r": 1.0, "z": 0.5}),
    ("gru_reset_after", {"n": 0.0}),
    ("lstm", {"f": 1.0}),
    ("lstm", {"i": 0.0, "o": 0.5}),
    ("lstm_coupled", {"f": 0.0}),
    ("mgu", {"f": 1.0}),
    ("rnn", {"n": -1.0}),
    ("light", {"z": 0.0}),
    ("two_speeds", {"n": 0.5, "b": 0.5}),
    ("two_speeds", {"a": 0.0}),
    ("gate_on_gate", {"r": 0.0}),
    ("gate_on_gate", {"r": 0.5, "q": 0.0}),
    ("gate_on_gate", {"r": 0.5}),
    ("piecewise", {"u": 0.0}),
    ("piecewise", {"u": 1.0, "v": 0.0}),
    ("piecewise", {"s": 0.0, "v": 1.0}),
    ("branches", {"v": 0.5}),
    ("branches", {"u": 0.0}),
    ("raw", {"z": 0.5}),
]


@cell
def raw(gate, x, h):
    """A gate without a function, pinned to a number that the equations also hold."""
    return 0.5 * tanh(gate.n(x, h)) + gate.z(x)


@pytest.mark.parametrize(("name", "gates"), CASES, ids=str)
def test_pinning_is_overwriting_the_gates_and_keeps_the_rows_of_the_others(name: str, gates: dict[str, float]) -> None:
    made = {**{n: cells.get(n) for n in GATES}, **ZOO, "raw": raw}[name]
    pinned = made.pin(**gates)
    assert not set(gates) & set(pinned.gates)
    assert list(pinned.gates) == [g for g in made.gates if g in pinned.gates]
    assert parse(pinned.text) == pinned
    x, _, states = make_inputs(made, 4, 3, INPUT, HIDDEN, DTYPE)
    parameters = make_parameters(made, INPUT, HIDDEN, DTYPE)
    y, _ = eager.sequence(pinned, x, {}, states, select(parameters, made, pinned))
    torch.testing.assert_close(y, forced(made, x, states, parameters, gates), rtol=1e-12, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(random_cells(), st.data())
def test_pinned_random_cells_are_cells(made: Cell, data: st.DataObject) -> None:
    gates = data.draw(st.lists(st.sampled_from(made.gates), unique=True) if made.gates else st.just([]))
    values = [data.draw(st.sampled_from([0, 1, 0.5, -1.0])) for _ in gates]
    try:
        pinned = made.pin(**dict(zip(gates, values, strict=True)))
    except ValueError:  # a gate without a value of its own, for which a test of its own stands below
        return
    assert parse(pinned.text) == pinned
    assert set(pinned.gates) <= set(made.gates) - set(gates)
    for parameter, shape in pinned.parameter_shapes(INPUT, HIDDEN).items():
        assert shape[1:] == made.parameter_shapes(INPUT, HIDDEN)[parameter][1:]
        assert set(pinned.rows(parameter)) <= set(made.rows(parameter)) or parameter == "weight_diagonal"
    assert pinned.name.isidentifier()
    assert not keyword.iskeyword(pinned.name)


def test_an_operand_that_pinning_empties_leaves_the_bias() -> None:
    @cell
    def emptied(gate, x, h):
        return tanh(gate.n(sigmoid(gate.r(x, h)) * h)) + 0.5 * h

    pinned = emptied.pin(r=0)
    assert pinned.gates == ("n",)
    assert pinned.rows("bias_hh") == ("n",)


def test_pinning_nothing_changes_nothing() -> None:
    assert cells.gru.pin() is cells.gru


def test_pinned_names_tell_the_values() -> None:
    assert cells.gru.pin(r=1, z=0).name == "gru_r1_z0"
    assert cells.gru.pin(n=-0.5).name == "gru_nm0p5"
    assert cells.gru.pin(n=1e-7).name.isidentifier()


def test_an_unknown_gate_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="cell gru has no gate 'q'; its gates are r, z, n"):
        cells.gru.pin(q=1)
    with pytest.raises(ValueError, match="its gates are none"):
        ZOO["fading"].gate_value("z")


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", None, True, 1j])
def test_gates_are_pinned_to_finite_numbers(value: object) -> None:
    with pytest.raises(ValueError, match="cell gru: gate r must be pinned to a finite number"):
        cells.gru.pin(r=value)


def test_a_gate_without_a_value_of_its_own_cannot_be_pinned() -> None:
    @cell
    def parted(gate, x, h, c):
        return h + gate.n(x), c * gate.n(h)

    with pytest.raises(ValueError, match="cell parted: gate n has no value of its own that could be pinned"):
        parted.pin(n=1)


def test_values_that_have_no_result_get_a_sentence() -> None:
    @cell
    def quotient(gate, x, h):
        return h * (gate.a(x, h) / gate.b(x, h))

    with pytest.raises(ValueError, match="cell quotient: these gates cannot be pinned to these values"):
        quotient.pin(a=1, b=0)


def test_gate_values() -> None:
    def text(made: Cell, gate: str) -> str:
        value = made.gate_value(gate)
        return value.op

    assert [text(cells.lstm, g) for g in "ifgo"] == ["sigmoid", "sigmoid", "tanh", "sigmoid"]
    assert text(cells.gru_reset_after, "n") == "tanh"
    assert text(ZOO["branches"], "u") == "affine"  # passes through tanh and through sigmoid: no one function
    assert ZOO["branches"].gate_value("v") is ZOO["branches"].gate_value("w")

    @cell
    def raw_halves(gate, x, h):
        return h + gate.n(x) + 0.5 * gate.n(h)

    assert text(raw_halves, "n") == "add"
    assert raw_halves.pin(n=2).gates == ()
