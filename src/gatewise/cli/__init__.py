"""The command line: parses, calls, prints. Exit codes: 0 done, 2 bad input (one line on standard error), 130 Ctrl-C."""

from __future__ import annotations

import itertools
import logging
import sys

from gatewise.tasks.errors import FULL, InputError, need, reason

try:
    need("typer")
    need("rich")
    import typer

    from gatewise.cli import about, compare, convert, fit, quantize, study, use
    from gatewise.cli.common import app
except InputError as error:
    print(f"gatewise: {error}", file=sys.stderr)
    raise SystemExit(2) from None
except KeyboardInterrupt:
    print("gatewise: interrupted", file=sys.stderr)
    raise SystemExit(130) from None

app.add_typer(fit.app, name="fit")
for name, verb in use.apps.items():
    app.add_typer(verb, name=name)
app.add_typer(compare.app, name="compare")
app.command()(study.gradients)
app.command()(study.trial)
app.command()(study.report)
app.command()(convert.convert)
app.command()(quantize.quantize)
app.command()(about.info)
app.command()(about.cells)


def main() -> None:
    """Run the command line; every error of the input is one line on standard error and exit code 2."""
    if logging.lastResort is not None:  # what is read for long, and what of it is not used, on standard error
        logging.getLogger("gatewise").setLevel(logging.INFO)
        logging.lastResort.setLevel(logging.INFO)
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        code = _fail(f"{error}{error.typed}")
    except OSError as error:  # of a file that is not ours: standard output, a temporary one
        if error.errno not in FULL:
            raise
        code = _fail(f"{error.filename or 'a file'} cannot be written: {reason(error)}")
    except typer.exceptions.TyperException as error:
        message = error.format_message()
        code = _fail(message + _came(error, message)) if message else 2  # without one, help was printed
    except (KeyboardInterrupt, typer.Abort):
        print("gatewise: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str) -> int:
    print(f"gatewise: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def _came(error: Exception, message: str) -> str:
    """What an option of the wrong type was given, where the message does not say."""
    names = getattr(getattr(error, "param", None), "opts", ())
    split = [part for word in sys.argv[1:] for part in (word.split("=", 1) if word.startswith("--") else [word])]
    values = [value for name, value in itertools.pairwise(split) if name in names]
    return f", got {values[-1]!r}" if values and repr(values[-1]) not in message else ""
