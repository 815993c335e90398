"""The canonical text: it round-trips, it is the identity of a cell, and a hostile one does nothing."""

import builtins
import copy
import os
import pickle
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from cells_zoo import ZOO
from hypothesis import given, settings
from kernel_cells import BUILT_IN
from strategies import cells as random_cells

from gatewise import Cell, CellError, cell, cells, tanh
from gatewise.compiler import parse

ALL = {**BUILT_IN, **ZOO}
GRU = """\
def gru(gate, x, h):
    _0 = gate.r(x, h)
    _1 = gate.z(x, h)
    _2 = gate.n(x, (sigmoid(_0) * h))
    _3 = sigmoid(_1)
    return ((_3 * h) + ((1.0 - _3) * tanh(_2)))
"""


def same(a: Cell, b: Cell) -> bool:
    """Down to the nodes, which are interned."""
    return (a.text, a.outputs, a.affines, a.states, a.inputs) == (b.text, b.outputs, b.affines, b.states, b.inputs)


def test_the_text_of_gru() -> None:
    assert cells.gru.text == GRU


@pytest.mark.parametrize("made", ALL.values(), ids=ALL.keys())
def test_round_trip(made: Cell) -> None:
    assert same(parse(made.text), made)
    assert parse(made.text).uses == made.uses


@settings(max_examples=150, deadline=None)
@given(random_cells())
def test_round_trip_of_random_cells(made: Cell) -> None:
    assert same(parse(made.text), made)
    assert parse(made.text).equations() == made.equations()


def test_deep_values_round_trip() -> None:
    @cell
    def deep(gate, x, h):
        v = gate.n(x, h)
        for k in range(5000):
            v = -tanh(v) + 1 / (k + 1)
        return v + h

    assert same(parse(deep.text), deep)


def test_the_text_is_the_identity() -> None:
    @cell
    def gru(gate, x, h):
        r, z = cells.sigmoid(gate.r(x, h)), cells.sigmoid(gate.z(x, h))
        return z * h + (1 - z) * tanh(gate.n(x, r * h))

    assert gru == cells.gru
    assert hash(gru) == hash(cells.gru)
    assert gru != cells.gru_renew
    assert gru != "gru"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_are_equal(copied: object) -> None:
    again = copied(cells.lstm)
    assert again == cells.lstm
    assert again.source == cells.lstm.source


def test_pickles_hold_the_text_and_nothing_that_could_move() -> None:
    """Those of the first release, which call the parser, load; those of today name the class alone."""
    text, source = cells.rnn.text.replace("\n", "\\u000a"), cells.rnn.source
    pickled = f"cgatewise.compiler.text\nparse\np0\n(V{text}\np1\nV{source}\np2\ntp3\nRp4\n.".encode()
    assert pickle.loads(pickled) == cells.rnn
    assert cells.rnn.__reduce_ex__(2)[2] == (cells.rnn.text, source)
    assert b"gatewise.compiler.cell" in pickle.dumps(cells.rnn)
    assert b"parse" not in pickle.dumps(cells.rnn)
    assert pickle.loads(pickled).source == source


def hostile(line: str) -> str:
    return f"def f(gate, x, h):\n    {line}\n    return tanh(gate.n(x, h))\n"


HOSTILE = {
    "import": hostile("import os"),
    "import_call": hostile("a = __import__('os')"),
    "attribute": hostile("a = h.__class__"),
    "attribute_of_gate": hostile("a = gate.__class__"),
    "dunder_gate": hostile("a = gate.__init__(x, h)"),
    "private_gate": hostile("a = gate._apply('n', x)"),
    "hash_of_gate": hostile("a = h * gate.__hash__()"),
    "size_of_gate": hostile("a = h * gate.__sizeof__()"),
    "text_of_gate": hostile("a = gate.__str__()"),
    "class_of_gate": hostile("a = gate.__class__('f')"),
    "uses_of_gate": hostile("a = gate._uses.fail(x)"),
    "keyword_gate": hostile("a = gate.if(x, h)"),
    "gate_of_a_value": hostile("a = h.n(x)"),
    "dunder_name": hostile("__class__ = h"),
    "dunder_value": hostile("a = __name__"),
    "dunder_cell": "def __init__(gate, x, h):\n    return tanh(gate.n(x, h))\n",
    "dunder_state": "def f(gate, x, __class__):\n    return tanh(gate.n(x, __class__))\n",
    "gate_again": hostile("gate = h"),
    "function_again": hostile("tanh = h"),
    "fullwidth_gate": hostile("h = tanh(\uff47ate.z(x, h))"),
    "ligature": hostile("\ufb01 = h"),
    "cyrillic_state": hostile("a = tanh(\u04bb)"),
    "cyrillic_x": "def f(gate, \u0445, h):\n    return tanh(gate.n(\u0445, h))\n",
    "right_to_left": hostile("a = \u202eh"),
    "lambda": hostile("a = (lambda: h)()"),
    "comprehension": hostile("a = [h for _ in h]"),
    "generator": hostile("a = tanh(h for h in x)"),
    "builtin": hostile("a = eval('1')"),
    "open": hostile("a = open('made', 'w')"),
    "string": hostile("a = 'text'"),
    "bytes": hostile("a = b'text'"),
    "bool": hostile("a = True"),
    "none": hostile("a = None"),
    "complex": hostile("a = 1j"),
    "power": hostile("a = 9 ** 9"),
    "shift": hostile("a = 1 << 99999999999"),
    "huge": hostile("a = 1e999"),
    "digits": hostile("a = " + "9" * 10_000),
    "hexadecimal": hostile("a = 0x" + "f" * 100_000),
    "digits_in_a_list": hostile("a = [0x" + "f" * 5000 + "]"),
    "digits_as_width": "def f(gate, x, h, *, m: 0x" + "f" * 5000 + "):\n    return tanh(gate.n(x, h, m))\n",
    "width_beyond_memory": "def f(gate, x, h, *, m: 2147483648):\n    return tanh(gate.n(x, h, m))\n",
    "log_of_a_negative_number": hostile("a = log(-1.0)"),
    "overflow": hostile("a = exp(1000.0)"),
    "walrus": hostile("a = (b := h)"),
    "conditional": hostile("a = h if x else h"),
    "subscript": hostile("a = h[0]"),
    "starred": hostile("a = tanh(*h)"),
    "keyword": hostile("a = hard_sigmoid(h, slope=2.0)"),
    "named_operand": hostile("a = gate.z(x=x)"),
    "unpacking": hostile("a, b = h, h"),
    "augmented": hostile("h += 1"),
    "annotated": hostile("a: int = h"),
    "delete": hostile("del h"),
    "loop": hostile("while h: pass"),
    "call": hostile("print(h)"),
    "unknown_name": hostile("a = missing"),
    "chained": hostile("a = tanh(h < x < h)"),
    "slope": hostile("a = hard_sigmoid(h, h)"),
    "no_arguments": hostile("a = hard_sigmoid()"),
    "too_many_arguments": hostile("a = tanh(h, h)"),
    "bare_comparison": "def f(gate, x, h):\n    return h < h\n",
    "division_by_zero": hostile("a = 1 / 0"),
    "assign_to_attribute": hostile("gate.n = h"),
    "decorator": "@print\ndef f(gate, x, h):\n    return tanh(gate.n(x, h))\n",
    "default": "def f(gate, x, h=print('executed')):\n    return tanh(gate.n(x, h))\n",
    "keyword_default": "def f(gate, x, h, *, m: 1 = print('executed')):\n    return tanh(gate.n(x, h)) * m\n",
    "annotation": "def f(gate, x, h: print('executed')):\n    return tanh(gate.n(x, h))\n",
    "width": "def f(gate, x, h, *, m: print('executed')):\n    return tanh(gate.n(x, h)) * m\n",
    "width_0": "def f(gate, x, h, *, m: 0):\n    return tanh(gate.n(x, h)) * m\n",
    "vector": "def f(gate, x, h, *, m: vector(print('executed'))):\n    return tanh(gate.n(x, h)) * m\n",
    "vector_0": "def f(gate, x, h, *, m: vector(0)):\n    return tanh(gate.n(x, h)) * m\n",
    "vector_named": "def f(gate, x, h, *, m: vector(width=1)):\n    return tanh(gate.n(x, h)) * m\n",
    "vector_twice": "def f(gate, x, h, *, m: vector(1, 1)):\n    return tanh(gate.n(x, h)) * m\n",
    "other_call": "def f(gate, x, h, *, m: print(1)):\n    return tanh(gate.n(x, h)) * m\n",
    "returns": "def f(gate, x, h) -> print('executed'):\n    return tanh(gate.n(x, h))\n",
    "varargs": "def f(gate, x, h, *rest):\n    return tanh(gate.n(x, h))\n",
    "kwargs": "def f(gate, x, h, **rest):\n    return tanh(gate.n(x, h))\n",
    "positional_only": "def f(gate, x, h, /):\n    return tanh(gate.n(x, h))\n",
    "twice": "def f(gate, x, h, h):\n    return tanh(gate.n(x, h)), h + 1\n",
    "reserved": "def f(gate, x, h, *, ih: 1):\n    return tanh(gate.n(x, h)) * ih\n",
    "no_state": "def f(gate, x):\n    return tanh(gate.n(x))\n",
    "other_gate": "def f(g, x, h):\n    return tanh(g.n(x, h))\n",
    "no_return": "def f(gate, x, h):\n    a = tanh(gate.n(x, h))\n",
    "empty_return": "def f(gate, x, h):\n    return\n",
    "two_statements": "import os\ndef f(gate, x, h):\n    return tanh(gate.n(x, h))\n",
    "async": "async def f(gate, x, h):\n    return tanh(gate.n(x, h))\n",
    "class": "class f: pass\n",
    "expression": "print('executed')\n",
    "empty": "",
    "not_python": "def f(gate, x, h:",
    "nul": "def f(gate, x, h):\n    return tanh(gate.n(x, h\0))\n",
    "surrogate": "def f(gate, x, h):\n    return tanh(gate.n(x, \ud800))\n",
    "parentheses": hostile("a = " + "(" * 5000 + "h" + ")" * 5000),
    "minus_signs": hostile("a = " + "-" * 50_000 + "h"),
    "nested_calls": hostile("a = " + "tanh(" * 3000 + "h" + ")" * 3000),
    "long_sum": hostile("a = h" + " + h" * 50_000),
    "choices": hostile("a = h" + " if h else h" * 10_000),
    "brackets": hostile("a = " + "[" * 150_000),
    "comparisons": hostile("a = h" + " < h" * 40_000),
    "statements": hostile("h;" * 20_000 + "h"),
    "too_long": hostile("a = h\n    #" + "." * 300_000),
    "a_megabyte_of_gates": hostile("".join(f"a = gate.g{k}(x, h)\n    " for k in range(40_000)) + "a = h"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_refused_and_never_executed(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("executed")

    for module, name in ((builtins, "exec"), (builtins, "eval"), (os, "system")):
        monkeypatch.setattr(module, name, forbidden)
    loaded = set(sys.modules)
    with pytest.raises(CellError) as caught:
        parse(text)
    assert capsys.readouterr().out == ""
    assert set(sys.modules) == loaded
    assert "\n" not in str(caught.value).strip()
    assert len(str(caught.value)) < 400


def gates_in_a_row(count: int) -> str:
    """Every gate reads what the gates before gave."""
    lines = "".join(f"    a{k} = tanh(gate.g{k}(x, a{k - 1} + h))\n" for k in range(1, count))
    return f"def f(gate, x, h):\n    a0 = tanh(gate.g0(x, h))\n{lines}    return a{count - 1}\n"


def gates_in_halves(count: int) -> str:
    lines = "".join(f"    a = tanh(gate.g{k}(x) + gate.g{k}(a))\n" for k in range(count))
    return f"def f(gate, x, h):\n    a = h\n{lines}    return a\n"


def gates_in_a_sum(count: int) -> str:
    lines = "".join(f"    a = a + gate.g{k}(x, h)\n" for k in range(count))
    return f"def f(gate, x, h):\n    a = h\n{lines}    return a\n"


def keyword_inputs(count: int) -> str:
    names = [f"m{k}" for k in range(count)]
    return f"def f(gate, x, h, *, {', '.join(f'{n}: 1' for n in names)}):\n    return gate.a(h, {', '.join(names)})\n"


def diagonals(count: int) -> str:
    names = ", ".join(f"diagonal(s{k})" for k in range(count))
    states = [f"s{k}" for k in range(count)]
    news = ", ".join(f"({s} * a)" for s in states)
    return f"def f(gate, x, {', '.join(states)}):\n    a = gate.a(x, {names})\n    return {news}\n"


def prologue(count: int) -> str:
    """Inputs go through more and more before each gate."""
    lines = "".join(f"    p = tanh(p + x)\n    a = a + gate.g{k}(p, h)\n" for k in range(count))
    return f"def f(gate, x, h):\n    p = x\n    a = h\n{lines}    return a\n"


def lines_of(work: Callable[[], object]) -> int:
    """How many lines of Python a call runs: a count of its work that does not depend on the machine."""
    count = 0

    def each(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "text",
    [gates_in_a_row, gates_in_halves, gates_in_a_sum, keyword_inputs, diagonals, prologue],
    ids=lambda f: f.__name__,
)
def test_the_work_grows_as_the_text_does(text: Callable[[int], str]) -> None:
    """Read, print and count the parameters: for each gate the same, however many there are."""

    def work(count: int) -> int:
        written = text(count)
        return lines_of(lambda: (made := parse(written)).parameter_count(3, 3) + len(made.text))

    parse(text(2))
    assert work(160) < 2.2 * work(80)


def test_three_thousand_gates() -> None:
    made = parse(gates_in_a_row(3000))
    assert len(made.gates) == len(made.rows("weight_hh")) == 3000
    assert same(parse(made.text), made)


@pytest.mark.parametrize("name", ["if", "\uff52", "_r", "2", ""])
def test_gates_have_names_that_a_text_can_have(name: str) -> None:
    def named(gate, x, h):
        return tanh(getattr(gate, name)(x, h))

    with pytest.raises(CellError, match="cannot name a gate"):
        cell(named)


@pytest.mark.parametrize("text", [None, 3, GRU.encode(), [GRU]])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(CellError, match="must be a str"):
        parse(text)
