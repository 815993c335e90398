"""The printed equations, word by word."""

import pytest
from cells_zoo import ZOO
from hypothesis import given, settings
from strategies import cells as random_cells

from gatewise import Cell, cell, cells, maximum, sigmoid, tanh, where

GATES = """\
r = σ(W_r x + U_r h + b_r)
z = σ(W_z x + U_z h + b_z)
"""
LSTM_GATES = """\
f = σ(W_f x + U_f h + b_f)
g = tanh(W_g x + U_g h + b_g)
o = σ(W_o x + U_o h + b_o)
"""
BUILT_IN = {
    "gru": GATES + "n = tanh(W_n x + U_n (r ⊙ h) + b_n)\nh' = z ⊙ h + (1 − z) ⊙ n",
    "gru_renew": GATES + "n = tanh(W_n x + U_n (r ⊙ h) + b_n)\nh' = (1 − z) ⊙ h + z ⊙ n",
    "gru_reset_after": GATES + "n = tanh(W_n x + b_n + r ⊙ (U_n h + c_n))\nh' = z ⊙ h + (1 − z) ⊙ n",
    "lstm": "i = σ(W_i x + U_i h + b_i)\n" + LSTM_GATES + "c' = f ⊙ c + i ⊙ g\nh' = o ⊙ tanh(c')",
    "lstm_coupled": LSTM_GATES + "c' = f ⊙ c + (1 − f) ⊙ g\nh' = o ⊙ tanh(c')",
    "lstm_peephole": "i = σ(W_i x + U_i h + p_i ⊙ c + b_i)\nf = σ(W_f x + U_f h + p_f ⊙ c + b_f)\n"
    "g = tanh(W_g x + U_g h + b_g)\nc' = f ⊙ c + i ⊙ g\n"
    "o = σ(W_o x + U_o h + p_o ⊙ c' + b_o)\nh' = o ⊙ tanh(c')",
    "rnn": "n = tanh(W_n x + U_n h + b_n)\nh' = n",
    "rnn_relu": "n = ReLU(W_n x + U_n h + b_n)\nh' = n",
    "mgu": "f = σ(W_f x + U_f h + b_f)\nn = tanh(W_n x + U_n (f ⊙ h) + b_n)\nh' = (1 − f) ⊙ h + f ⊙ n",
    "light_gru": "z = σ(W_z x + U_z h + b_z)\nn = ReLU(W_n x + U_n h + b_n)\nh' = z ⊙ h + (1 − z) ⊙ n",
    "augru": GATES + "n = tanh(W_n x + b_n + r ⊙ (U_n h + c_n))\nh' = (1 − attention · z) ⊙ h + attention · z ⊙ n",
    "gru_d": "d = ReLU(V_{d,gap} gap + b_d)\n"
    "s₁ = exp(−ReLU(rate ⊙ gap + offset))\n"
    "s₂ = mask ⊙ x + (1 − mask) ⊙ (s₁ ⊙ last + (1 − s₁) ⊙ mean)\n"
    "s₃ = exp(−d) ⊙ h\n"
    "r = σ(W_r s₂ + V_{r,mask} mask + U_r s₃ + b_r)\n"
    "z = σ(W_z s₂ + V_{z,mask} mask + U_z s₃ + b_z)\n"
    "n = tanh(W_n s₂ + V_{n,mask} mask + U_n (r ⊙ s₃) + b_n)\n"
    "h' = (1 − z) ⊙ s₃ + z ⊙ n",
}


def test_every_built_in_cell_is_expected_here() -> None:
    assert set(BUILT_IN) == set(cells.names())


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in(name: str) -> None:
    assert cells.get(name).equations() == BUILT_IN[name]


def test_peepholes_and_a_gate_named_as_a_state() -> None:
    assert ZOO["peephole_lstm"].equations() == (
        "i = σ(W_i x + U_i h + p_i ⊙ c + b_i)\n"
        "f = σ(W_f x + U_f h + p_f ⊙ c + b_f)\n"
        "c̃ = tanh(W_c x + U_c h + b_c)\n"
        "c' = f ⊙ c + i ⊙ c̃\n"
        "o = σ(W_o x + U_o h + p_o ⊙ c' + b_o)\n"
        "h' = o ⊙ tanh(c')"
    )


def test_keyword_inputs_have_matrices_of_their_own() -> None:
    assert ZOO["keywords"].equations() == (
        "z = σ(W_z x + U_z h + V_{z,mask} mask + b_z)\n"
        "n = tanh(W_n x + V_{n,code} code + U_n (z ⊙ h) + b_n + drive)\n"
        "k = σ(V_{k,dt} dt + V_{k,drive} drive + U_k h + b_k)\n"
        "h' = (1 − dt) · h + dt · (z ⊙ n + 0.1 · k ⊙ drive)"
    )
    assert "z = σ(W_z (x · exp(−ReLU(w))) + U_z h + V_z (1 − m) + b_z)" in ZOO["masked"].equations()


def test_choices_functions_and_shared_values() -> None:
    assert ZOO["piecewise"].equations() == (
        "u = hard_sigmoid(W_u x + U_u h + b_u)\n"
        "v = hard_sigmoid(W_v x + U_v c + b_v; 0.2, 0.4)\n"
        "s = softplus(W_s x + U_s h + b_s)\n"
        "n = tanh(W_n x + U_n (u ⊙ h) + b_n)\n"
        "s₁ = where(min(u, exp(−s)) < max(v, 0.5), n, ReLU(c) / (1 + s))\n"
        "s₂ = where(u ≥ v, s₁, log(1 + s) − c / 2)\n"
        "h' = max(min(s₂, 2), −2) ⊙ max(v, 0.5)\n"
        "c' = s₁ − 0.5 · s₂"
    )


def test_parentheses_stand_where_precedence_needs_them() -> None:
    @cell
    def brackets(gate, x, h, c):
        a = sigmoid(gate.a(x, h))
        return a - (c - h) + (-h), (a + c) * (h / c) / (a * c) - (-2 * h)

    assert brackets.equations() == (
        "a = σ(W_a x + U_a h + b_a)\nh' = a − (c − h) + (−h)\nc' = (a + c) ⊙ (h / c) / (a ⊙ c) − (−2) · h"
    )


def test_a_state_that_takes_over_another() -> None:
    @cell
    def delay(gate, x, h, before):
        return tanh(
            gate.n(
                x,
                h,
            )
        ) + before, h

    assert delay.equations() == "n = tanh(W_n x + U_n h + b_n)\nh' = n + before\nbefore' = h"


def test_two_states_with_one_new_value() -> None:
    @cell
    def twins(gate, x, h, c):
        new = tanh(gate.n(x, h)) + c
        return new, new

    assert twins.equations() == "n = tanh(W_n x + U_n h + b_n)\nh' = n + c\nc' = h'"


def test_repeated_squaring_and_nested_choices_stay_short() -> None:
    @cell
    def squares(gate, x, h):
        v = gate.n(x, h)
        for _ in range(60):
            v = v * v + h
            condition = v < h
            v = where(condition, v, h) + where(condition, h, maximum(v, h))
        return v

    assert len(squares.equations()) < 20_000


def test_deep_values_are_printed_over_several_lines() -> None:
    @cell
    def deep(gate, x, h):
        for _ in range(3000):
            h = tanh(h) + 1
        return h

    assert len(deep.equations().splitlines()) > 10


@pytest.mark.parametrize("zoo", ZOO.values(), ids=ZOO.keys())
def test_every_state_has_its_line(zoo: Cell) -> None:
    heads = [line.split(" = ")[0] for line in zoo.equations().splitlines()]
    assert len(heads) == len(set(heads))
    assert {f"{s}'" for s in zoo.states} <= set(heads)


@settings(max_examples=60, deadline=None)
@given(random_cells())
def test_what_is_used_is_defined_first(made: Cell) -> None:
    defined: set[str] = set()
    names = {line.split(" = ")[0] for line in made.equations().splitlines()}
    for line in made.equations().splitlines():
        head, body = line.split(" = ", 1)
        for name in names:
            if name.startswith("s₁") or name.startswith("s₂") or name.endswith("'"):
                assert name not in body.split() or name in defined
        defined.add(head)
