"""The ``gatewise`` command, outside the package so that Ctrl-C is answered while that, and torch, is being imported."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; Ctrl-C before it is there ends the process with a line on standard error and code 130."""
    before = signal.signal(signal.SIGINT, _leave)
    from gatewise import cli

    signal.signal(signal.SIGINT, before)
    cli.main()


def _leave(number: int, frame: FrameType | None) -> None:
    # No exception: in the middle of an import it could be swallowed, or come out as another one.
    os.write(2, b"gatewise: interrupted\n")
    os._exit(130)
