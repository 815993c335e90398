"""What all ways to a gate pass through: against a search that tries every node."""

import pytest
from hypothesis import given, settings
from kernel_cells import ALL
from strategies import cells as random_cells

from gatewise import Cell
from gatewise.compiler.dominance import Dominance
from gatewise.compiler.expression import Node, postorder, reaches


def searched(roots: tuple[Node, ...], targets: list[Node]) -> list[Node]:
    """Nodes that reach every target, and without which no root reaches any."""
    nodes = postorder(roots)
    return [n for n in nodes if all(reaches([n], [t]) for t in targets) and not reaches(roots, targets, without=n)]


@pytest.mark.parametrize("made", ALL.values(), ids=ALL.keys())
def test_every_node_and_every_gate(made: Cell) -> None:
    found = Dominance(made.outputs)
    nodes = postorder(made.outputs) if made.name != "piecewise" else [*made.affines]
    for node in nodes:
        assert list(found.common([node])) == searched(made.outputs, [node])
    for gate in made.gates:
        uses = [u.node for u in made.uses if u.gate == gate]
        assert list(found.common(uses)) == searched(made.outputs, uses)


@settings(max_examples=60, deadline=None)
@given(random_cells())
def test_pairs_of_random_cells(made: Cell) -> None:
    found, nodes = Dominance(made.outputs), postorder(made.outputs)
    for a, b in zip(nodes, nodes[3:], strict=False):
        assert list(found.common([a, b])) == searched(made.outputs, [a, b])
