"""Which nodes all ways from the roots of a graph to some node pass through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatewise.compiler.expression import Node, postorder


class Dominance:
    """The tree in which every node hangs below the nearest other node that all ways from the roots to it pass through.

    Cooper, Harvey & Kennedy 2001, "A simple, fast dominance algorithm"; a graph without circles takes one pass.
    """

    def __init__(self, roots: Iterable[Node]) -> None:
        roots = list(roots)
        order = postorder(roots)
        self._place = {node: k for k, node in enumerate(order)}
        self._above: dict[Node, Node | None] = dict.fromkeys(roots)
        for user in reversed(order):
            for arg in user.args:
                self._above[arg] = self._meeting(self._above[arg], user) if arg in self._above else user

    def _meeting(self, a: Node | None, b: Node | None) -> Node | None:
        while a is not b:
            if a is None or b is None:
                return None
            if self._place[a] < self._place[b]:
                a = self._above[a]
            else:
                b = self._above[b]
        return a

    def common(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """The nodes that all ways from the roots to each of these pass through, the nearest first. A node is on all
        ways to itself."""
        first, *others = nodes
        meeting: Node | None = first
        for node in others:
            meeting = self._meeting(meeting, node)
        while meeting is not None:
            yield meeting
            meeting = self._above[meeting]
