"""``gatewise trace`` of models that have no picture of their own: their gates over an input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatewise.tasks import checks
from gatewise.tasks.base import Task
from gatewise.tasks.figures import SUFFIXES
from gatewise.tasks.folder import dumps, new_file, write_bytes
from gatewise.tasks.verbs import Trace, print_table


@dataclass(frozen=True, kw_only=True)
class TraceGates(Trace):
    """The gates of a model over INPUT: heat maps, rate of change, half-lives; a CSV beside the picture."""

    def run(self, task: Task, model: Path, json: bool) -> None:
        from gatewise.study.plots import trace_picture
        from gatewise.study.tracing import MOST_STEPS, nth, traced

        checks.check_integer("row", self.row, 0, checks.MOST)
        picture, table = new_pair(self.output, ".csv")
        found = traced(task, self.data, self.row)
        trace_picture(found, picture)
        write_bytes(table, found.csv().encode())
        steps = len(found.labels)
        if json:
            lives = dict(zip(found.units.tolist(), found.half_life.tolist(), strict=True))
            summary = {"cell": found.cell, "steps": steps, "keeper": found.keeper, "half_life_steps": lives}
            print(dumps({**summary, "picture": str(picture), "table": str(table)}), end="")
            return
        if found.keeper is not None:
            chosen = [("longest", 0), ("median", len(found.units) // 2), ("shortest", -1)]
            rows = [(name, str(found.units[k]), f"{found.half_life[k]:.2f}") for name, k in chosen]
            print_table([f"half-life by {found.keeper}", "unit", "steps"], rows)
        if steps > MOST_STEPS:
            drawn = nth(-(-steps // MOST_STEPS))
            print(f"{steps} steps are more than a picture shows: every {drawn} is drawn, all in the CSV")
        print(f"{picture}\n{table}")


def new_pair(output: str, suffix: str) -> tuple[Path, Path]:
    """A new picture and the new file with its data beside it."""
    picture = new_file(output, SUFFIXES)
    return picture, new_file(picture.with_suffix(suffix), (suffix,))
