"""The cost model of tiles beside a search over all of them: ``python -m benches.tiles --json docs/performance``.

Of every shape, each phase of the recurrence runs on every tile that fits into the registers, the other phases on those
that ``gatewise.backends.cpu.tile`` chooses; whole calls are timed in turns. A row says how much longer the chosen tile
takes than the best. Results are the same bits on every tile; one that gives others stops the search.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benches.check import WrongNumbersError
from benches.columns import COLUMNS
from benches.files import unwritable, write_json
from benches.machine import features, own_file
from benches.problem import Problem, Run
from benches.shapes import INFERENCE_SHAPES, TRAIN_SHAPES, Shape
from benches.tables import table
from benches.timing import measure
from gatewise.backends.cpu import launch, tile
from gatewise.backends.cpu.phase import Tile
from gatewise.backends.cpu.tiers import Tier
from gatewise.backends.kernels import recipe
from gatewise.compiler.schedule import Phase, Product

Record = dict[str, Any]
Key = tuple[tuple[Product, ...], tuple[str, ...]]
"""What tells phases apart: products, and the names of what is stored."""
LEAST_ROUNDS = 7
"""Of which the lower quartile counts: a busy machine makes single times longer, and a minimum is one time."""
CLOSE = 1.03
"""Times of one call differ by so much from run to run."""
FORMS = ("gru_after", "gru_before", "lstm")
SHAPES = (*[shape for shape in INFERENCE_SHAPES if shape.time > 1], *TRAIN_SHAPES)


@dataclass
class Variant:
    """Calls with one phase on a tile of its own, with prepared plans and programs of its own."""

    key: Key | None = None
    tile: Tile | None = None
    seen: dict[Key, tuple[Phase, Tier, Tile]] = field(default_factory=dict)
    """Phases of the recurrence that were asked for, and what the cost model chose for them."""
    prepared: dict[Any, Any] = field(default_factory=dict)
    recipes: dict[Any, Any] = field(default_factory=dict)

    def run(self, call: Callable[[], Any]) -> Any:
        """What the call gives, on this variant's tiles."""
        model, *before = tile.choose, launch._prepared, recipe._recipes

        def choose(phase: Phase, tier: Tier, length: int, rows: int, units: int) -> Tile:
            key, found = key_of(phase), model(phase, tier, length, rows, units)
            if recurs(phase):
                self.seen[key] = phase, tier, found
            return self.tile if self.tile is not None and key == self.key else found

        tile.choose, launch._prepared, recipe._recipes = choose, self.prepared, self.recipes
        try:
            return call()
        finally:
            tile.choose, launch._prepared, recipe._recipes = model, *before


def key_of(phase: Phase) -> Key:
    return phase.products, tuple(name for name, _ in phase.stores)


def recurs(phase: Phase) -> bool:
    """Whether a phase belongs to the steps, and not to products over all of them."""
    return any(p.operand.after or p.operand.name.startswith("state.") for p in phase.products)


def search(shape: Shape, form: str, budget: float) -> Iterator[Record]:
    """A record for each phase of the recurrence; ``budget`` seconds of timing for each."""
    start = next(column.start for column in COLUMNS if column.name == form)
    run, model = start(Problem.of(shape, form)), Variant()
    with torch.set_grad_enabled(shape.training):
        right = model.run(run.results)
        for key, (phase, tier, chosen) in list(model.seen.items()):
            variants = {chosen: model}
            for one in tile.candidates(phase, tier):
                if one.rows <= shape.batch and one not in variants:
                    variants[one] = checked(Variant(key, one), run, right)
            columns = {str(t): partial(variant.run, run.call) for t, variant in variants.items()}
            times = {t: found.lower for t, found in measure(columns, budget, least=LEAST_ROUNDS).items()}
            best = min(variants, key=lambda t: times[str(t)])
            yield {
                "shape": str(shape),
                "form": form,
                "threads": torch.get_num_threads(),
                "sums": ", ".join(f"{p.operand.name} × {len(p.accumulators)}" for p in phase.products),
                "tiles": len(variants),
                "chosen": f"{chosen.rows} × {chosen.vectors}",
                "best": f"{best.rows} × {best.vectors}",
                "chosen_ms": times[str(chosen)],
                "best_ms": times[str(best)],
            }


def checked(variant: Variant, run: Run, right: Mapping[str, torch.Tensor]) -> Variant:
    """The variant, whose results are the bits of the model's."""
    for name, value in variant.run(run.results).items():
        if not torch.equal(value, right[name]):
            raise WrongNumbersError(f"tile {variant.tile} gives another {name}")
    return variant


def ratios(records: Sequence[Record]) -> list[float]:
    """How much longer the chosen tiles take than the best."""
    return [record["chosen_ms"] / record["best_ms"] for record in records]


def rows(records: Sequence[Record]) -> list[list[str]]:
    """A line of ``HEAD`` for each record."""
    titles = {column.name: column.title for column in COLUMNS}
    return [
        [
            *(str(record[name]) for name in ("shape", "threads")),
            titles[record["form"]],
            *(str(record[name]) for name in ("sums", "tiles", "chosen", "best")),
            f"{ratio:.2f}",
        ]
        for record, ratio in zip(records, ratios(records), strict=True)
    ]


HEAD = ("B,T,I,H", "threads", "layer", "operand × sums", "tiles", "chosen", "best", "chosen ÷ best")


def summary(records: Sequence[Record]) -> str:
    """How far the choice is from the best, in one sentence."""
    found = ratios(records)
    within = sum(ratio <= CLOSE for ratio in found)
    return (
        f"The middle ratio is {statistics.median(found):.2f}, the largest {max(found):.2f}; "
        f"{within} of {len(found)} are within {CLOSE:.2f}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.tiles", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--shapes", type=Shape.read, nargs="+", default=SHAPES, help="B,T,I,H or train:B,T,I,H")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of timing for each phase")
    asked = parser.parse_args(arguments)
    asked.json = own_file(asked.json, "tiles")
    if problem := unwritable("--json", asked.json):
        print(f"tiles: {problem}", file=sys.stderr)
        return 2
    torch.set_num_threads(asked.threads)
    records: list[Record] = []
    for shape in asked.shapes:
        for form in asked.forms:
            for record in search(shape, form, asked.budget):
                records.append(record)
                print(json.dumps(record), file=sys.stderr, flush=True)
    if asked.json:
        write_json(asked.json, {"machine": features(), "records": records})
    print(table(HEAD, rows(records)))
    print(summary(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
