"""The canonical text: it round-trips, it is the identity of a cell, and a hostile one does nothing."""

import builtins
import copy
import os
import pickle
import sys

import pytest
from cells_zoo import ZOO
from hypothesis import given, settings
from strategies import cells as random_cells

from gatewise import Cell, CellError, cell, cells, tanh
from gatewise.compiler import parse

ALL = {**{name: cells.get(name) for name in cells.names()}, **ZOO}
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


def hostile(line: str) -> str:
    return f"def f(gate, x, h):\n    {line}\n    return tanh(gate.n(x, h))\n"


HOSTILE = {
    "import": hostile("import os"),
    "import_call": hostile("a = __import__('os')"),
    "attribute": hostile("a = h.__class__"),
    "attribute_of_gate": hostile("a = gate.__class__"),
    "dunder_gate": hostile("a = gate.__init__(x, h)"),
    "private_gate": hostile("a = gate._apply('n', x)"),
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
    "too_long": hostile("a = h\n    #" + "." * 300_000),
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


@pytest.mark.parametrize("text", [None, 3, GRU.encode(), [GRU]])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(CellError, match="must be a str"):
        parse(text)
