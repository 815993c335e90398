"""The page of all options of all tasks, from their classes: ``python -m benches.option_tables > docs/options.md``."""

from __future__ import annotations

from gatewise.tasks import TASKS, task_named
from gatewise.tasks.options import table

INTRODUCTION = """# Options of the tasks

Each option is an argument of the task's constructor in Python, a flag of `gatewise fit` and `gatewise compare` on the
command line (`hidden_size` is `--hidden-size`), and an entry of a run's `config.json`. When you resume a run, options
must equal those of the run. Only `accelerator`, `devices` and `num_nodes` may change.

This page is made from the code by `python -m benches.option_tables`.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name in TASKS:
        kind = task_named(name)
        summary = (kind.__doc__ or "").split("\n\n")[0].replace("\n    ", "\n")
        parts.append(f"## {name}\n\n{summary}\n\n{table(kind.options_type)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
