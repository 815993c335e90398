"""The claims on trial in the order of the page: what each is called, which networks it needs, and who judges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatewise.study.trial import accuracy, cost, inside
from gatewise.study.trial.plan import Network, Scale
from gatewise.study.trial.runs import Runs
from gatewise.study.trial.section import Section
from gatewise.tasks.errors import InputError

CHECKS = "checks"
"""How the checks of the instrument are named beside the claims."""


@dataclass(frozen=True)
class Claim:
    """One or more claims that are judged together."""

    ids: tuple[str, ...]
    judge: Callable[[Runs], Section | list[Section]]
    needs: Callable[[Scale], list[Network]] = lambda scale: []

    def sections(self, runs: Runs) -> list[Section]:
        found = self.judge(runs)
        return found if isinstance(found, list) else [found]


CLAIMS = (
    Claim(("C1",), cost.counts),
    Claim(("C2a",), accuracy.about_as_well, accuracy.about_as_well_needs),
    Claim(("C2b",), accuracy.large_data, accuracy.large_data_needs),
    Claim(("C2c",), accuracy.long_dependencies, accuracy.long_dependencies_needs),
    Claim(("C3",), accuracy.the_figure, accuracy.the_figure_needs),
    Claim(("C4a",), inside.at_start),
    Claim(("C4b",), inside.after_training, inside.after_training_needs),
    Claim(("C4c",), inside.clipping),
    Claim(("C5",), inside.what_is_slow, inside.what_is_slow_needs),
    Claim(("U6",), inside.forget_and_select, inside.forget_and_select_needs),
    Claim(("C6",), accuracy.gates_serve, accuracy.gates_serve_needs),
    Claim(("C7a", "C7b"), cost.cheaper),
    Claim(("C7c",), cost.easier, cost.easier_needs),
    Claim(("C9",), accuracy.distance, accuracy.distance_needs),
)


def chosen(only: Sequence[str] | None) -> tuple[bool, list[Claim]]:
    """Whether the checks are run, and which claims; all of it where ``only`` is None.

    Raises:
        InputError: for a name that is none of a claim.
    """
    if only is None:
        return True, list(CLAIMS)
    known = [name for claim in CLAIMS for name in claim.ids]
    for name in only:
        if name not in (*known, CHECKS):
            raise InputError(f"only: got {name!r}, expected {CHECKS} or some of {', '.join(known)}")
    if not only:
        raise InputError(f"only: got nothing, expected {CHECKS} or some of {', '.join(known)}")
    return CHECKS in only, [claim for claim in CLAIMS if set(claim.ids) & set(only)]


def needed(claims: Sequence[Claim], scale: Scale) -> list[Network]:
    """Every network that some of the claims need, each once."""
    return list(dict.fromkeys(network for claim in claims for network in claim.needs(scale)))
