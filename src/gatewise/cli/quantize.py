"""``gatewise quantize``: a model with weights in int8 or bfloat16, scored before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gatewise.cli.arguments import directory
from gatewise.cli.common import Json, ModelArgument
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import dumps
from gatewise.tasks.registry import load
from gatewise.tasks.verbs import print_table


def quantize(
    model: ModelArgument,
    output: Annotated[
        Optional[Path],  # noqa: UP045 (typer evaluates it at run time)
        typer.Option("-o", "--output", metavar="DIR", parser=directory, help="Directory for the new model."),
    ] = None,
    to: Annotated[str, typer.Option("--to", help="int8 or bf16.")] = "int8",
    json: Json = False,
) -> None:
    """The recurrent layers of a model in int8 or bfloat16: smaller, quicker, for inference alone.

    The model is scored on what it held out, before and after, and written as a run of its own.
    """
    if output is None:
        raise InputError("quantize needs -o, the directory for the new model")
    from gatewise.tasks.quantising import quantised

    found = quantised(load(model), output, to)
    if json:
        sizes = {"before": found.bytes_before, "after": found.bytes_after}
        scores = {"before": found.before, "after": found.after}
        print(
            dumps({"output": str(output), "to": to, "scores": scores, "change": found.change(), "bytes": sizes}), end=""
        )
        return
    rows = []
    for name, values in found.before.items():
        rows.append((name, values))
        if found.after[name] != values:
            rows.append((f"{name} in {to}", found.after[name]))
    metrics = list(rows[0][1])
    shown = [(name, *(f"{values.get(m, float('nan')):.4f}" for m in metrics)) for name, values in rows]
    print_table([found.task.held_out_name, *metrics], shown)
    change = 100 * found.change()
    print(
        f"{output}: {found.task.metric} {abs(change):.2f} % {'worse' if change > 0 else 'better'}; weights "
        f"{found.bytes_before / 1e6:.2f} MB before, {found.bytes_after / 1e6:.2f} MB after"
    )
