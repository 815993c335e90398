"""The source of a kernel: a cell's struct, written from its design, and a layout for the skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from gatewise.backends.cuda.design import Design
from gatewise.backends.cuda.layout import Layout, Number
from gatewise.compiler.expression import Node
from gatewise.compiler.statements import LIBRARY, Dialect, statements

ENTRY = "gatewise_kernel"
_FUNCTIONS = ("sigmoid", "relu", "softplus", "clipped", "minimum", "maximum", *LIBRARY)
CUDA = Dialect(
    number="real({value})",
    declaration="const real {name} = {value};",
    names={name: f"Number::{name}" for name in _FUNCTIONS},
)


@lru_cache
def skeleton() -> dict[str, str]:
    """The files that a kernel includes, by name."""
    folder = files("gatewise.backends.cuda") / "skeleton"
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".cuh")}


def kernel(design: Design, layout: Layout) -> str:
    """The translation unit of a cell in a layout; its one kernel is called ``ENTRY``."""
    parts = ['#include "recurrent.cuh"', f"using Number = {layout.number.cpp};", cell(design), layout.source()]
    parts.append(
        f"KERNEL((Sizes<Cell, Layout>::threads)) {ENTRY}(ARGUMENTS Arguments<Cell, Number> a) {{\n"
        "    recurrent<Cell, Layout>(a);\n}"
    )
    return "\n\n".join(parts) + "\n"


def packing(number: Number) -> str:
    """The translation unit that packs weights, in any layout, for kernels that compute with a number."""
    name = f"KERNEL((pack_threads)) {ENTRY}(ARGUMENTS Packing a)"
    return f'#include "pack.cuh"\n\n{name} {{\n    pack<{number.cpp}>(a);\n}}\n'


def cell(design: Design) -> str:
    """What the skeleton calls a cell: its tables, what a thread knows of an element, and the point-wise part."""
    return "\n".join(["struct Cell {", *_indented(_Writer(design).lines()), "};"])


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


def _table(kind: str, name: str, values: Sequence[str]) -> str:
    """A function of a constant index; an array would want memory."""
    text = values[-1] if values else f"{kind}{{}}"
    for k, value in reversed(list(enumerate(values[:-1]))):
        text = f"i == {k} ? {value} : {text}"
    return f"static constexpr INLINE {kind} {name}(int i) {{ return {text}; }}"


class _Writer:
    def __init__(self, design: Design) -> None:
        self.d = design
        kept = [node for point in design.kept for node in point]
        self.fields = {node: f"s.kept{k}" for k, node in enumerate(kept)}
        self.carried = {name: f"s.{name.replace('.', '_')}" for name in design.carries}

    def lines(self) -> list[str]:
        d = self.d
        fields = [*self.carried.values(), *self.fields.values()]
        declared = ", ".join(field.removeprefix("s.") for field in fields)
        lines = ["using real = Number::real;", *self._tables(), f"struct State {{ real {declared}; }};"]
        assigned = [f"{field} = first[{k}];" for k, field in enumerate(self.carried.values())]
        assigned += [f"{field} = 0;" for field in self.fields.values()]
        lines += self._function("begin", "State& s, const real* first", assigned)
        given = [f"last[{k}] = {field};" for k, field in enumerate(self.carried.values())]
        lines += self._function("end", "const State& s, real* last", given)
        lines += self._function("carried", "const State& s, real* v", self._carried_vectors())
        common = "State& s, {}const real* x, const real* k, real* v, real* y"
        lines += self._function("start", common.format(""), self._point(0))
        for point in range(1, d.phases + 1):
            arguments = f"Int<{point - 1}>, {common.format('const real* sum, ')}"
            lines += self._function("epilogue", arguments, self._point(point))
        return lines

    def _tables(self) -> list[str]:
        d = self.d
        counts = {
            "phases": d.phases,
            "lead": d.lead,
            "carries": len(d.carries),
            "constants": len(d.constants),
            "inputs": len(d.inputs),
            "tiles": len(d.tiles),
            "vectors": len(d.vectors),
            "all_outputs": len(d.outputs),
        }
        written = ", ".join(f"{name} = {count}" for name, count in counts.items())
        points = [sum(o.point == p for o in d.outputs) for p in range(d.phases + 1)]
        booleans = [str(wide).lower() for wide in d.wide]
        before = [str(name.startswith("state.")).lower() for name in d.inputs]
        return [
            f"static constexpr int {written};",
            _table("Tile", "tile", [f"Tile{{{t.vector}, {t.phase}, {t.read}, {t.sum}}}" for t in d.tiles]),
            _table("Vector", "vector", [f"Vector{{{v.event}, {str(v.carried).lower()}}}" for v in d.vectors]),
            _table("int", "sums", [str(len(d.sums(p))) for p in range(1, d.phases + 1)]),
            _table("int", "outputs", [str(count) for count in points]),
            _table("bool", "wide", booleans),
            _table("bool", "before", before),
            _table("int", "input_like", [str(k) for k in d.input_like]),
            _table("int", "output_like", [str(k) for k in d.output_like]),
        ]

    @staticmethod
    def _function(name: str, arguments: str, body: Sequence[str]) -> list[str]:
        return ["", f"static INLINE void {name}({arguments}) {{", *_indented(body), "}"]

    def _carried_vectors(self) -> list[str]:
        event = [v for v in self.d.vectors if v.event == 0]
        return [f"v[{k}] = {self.carried[v.name]};" for k, v in enumerate(event) if v.carried]

    def _known(self, point: int) -> dict[Node, str]:
        """How values are written that a point finds."""
        d, known = self.d, dict[Node, str]()
        for node, ref in d.leaves.items():
            if ref.name in d.constants:
                known[node] = f"k[{d.constants.index(ref.name)}]"
            elif ref.name in self.carried:
                known[node] = self.carried[ref.name]
            elif not d.lead or point == 0:
                known[node] = f"x[{d.inputs.index(ref.name)}]"
        for earlier, nodes in enumerate(d.kept):
            if earlier < point:
                known |= {node: self.fields[node] for node in nodes}
        return known

    def _point(self, point: int) -> list[str]:
        d, known, lines = self.d, self._known(point), list[str]()
        for k, node in enumerate(d.sums(point)):
            start = d.starts[node]
            value = f"sum[{k}]" if start is None else f"{known[start]} + sum[{k}]"
            known[node] = f"a{k}"
            lines.append(CUDA.declaration.format(name=known[node], value=value))
        targets = self._targets(point)
        computed, texts = statements([node for _, node in targets], known, CUDA)
        lines += computed
        written = list(zip([target for target, _ in targets], texts, strict=True))
        states = set(self.carried.values())
        # States last, and through a name: the others are computed from their old values.
        lines += [f"{target} = {text};" for target, text in written if target not in states]
        renewed = [(target, text) for target, text in written if target in states]
        lines += [f"const real new{k} = {text};" for k, (_, text) in enumerate(renewed)]
        return lines + [f"{target} = new{k};" for k, (target, _) in enumerate(renewed)]

    def _targets(self, point: int) -> list[tuple[str, Node]]:
        d = self.d
        event = [v for v in d.vectors if v.event == point] if point < d.phases else []
        targets = [(f"v[{k}]", v.node) for k, v in enumerate(event) if not v.carried]
        targets += [(f"y[{k}]", o.node) for k, o in enumerate([o for o in d.outputs if o.point == point])]
        targets += [(self.fields[node], node) for node in d.kept[point]]
        if point == d.phases:
            targets += [(self.carried[name], node) for name, node in d.new.items()]
        return targets
