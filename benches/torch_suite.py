"""torch's own tests of recurrent layers, with Gatewise's classes in place of torch.nn's.

    git clone --depth 1 --branch v2.13.0 --filter=blob:none --sparse https://github.com/pytorch/pytorch
    git -C pytorch sparse-checkout set test
    python -m benches.torch_suite --tests pytorch/test

The branch is that of the installed torch; its tests need ``pip install expecttest hypothesis``. Every test that names
or uses a recurrent class runs twice, with torch's classes and with ours, each file in a process of its own. What passes
with torch's and fails with ours must be one of ``EXPLAINED``, whose reasons stand in docs/layers.md; anything else is
printed as such and gives exit code 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tempfile
import unittest
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import gatewise as gw

FILES = [
    "test_nn.py",
    "test_modules.py",
    "nn/test_packed_sequence.py",
    "nn/test_pruning.py",
    "nn/test_load_state_dict.py",
]
RECURRENT = re.compile(r"RNN|GRU|LSTM|rnn|gru|lstm")

# The name of a test, what it says, and the row of the table in docs/layers.md that says why.
EXPLAINED = [
    (
        r"test_errors_nn_|_nonlinearity$|test_cudnn_forward_exception$|test_projections_errors_on_gru_and_rnn$",
        r"AssertionError: .* does not match ",
        "other mistakes",
    ),
]


class GRU(gw.GRU):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, reset_after=True)


class GRUCell(gw.GRUCell):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, reset_after=True)


OURS = {"GRU": GRU, "GRUCell": GRUCell, "LSTM": gw.LSTM, "LSTMCell": gw.LSTMCell, "RNN": gw.RNN, "RNNCell": gw.RNNCell}


def explanation(name: str, said: str) -> str | None:
    found = (why for names, words, why in EXPLAINED if re.search(names, name) and re.match(words, said))
    return next(found, None)


class Outcomes(unittest.TestResult):
    """The outcome of each test, and the last line of what went wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[str, str]] = {}

    def _note(self, test: unittest.TestCase, outcome: str, error: Any = None) -> None:
        said = "" if error is None else f"{error[0].__name__}: {error[1]}".strip()
        self.found[test.id()] = (outcome, said.splitlines()[0] if said else "")

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.found.setdefault(test.id(), ("passed", ""))  # after a part that failed it is told too

    def addFailure(self, test: unittest.TestCase, error: Any) -> None:
        self._note(test, "failed", error)

    addError = addFailure

    def addSubTest(self, test: unittest.TestCase, subtest: Any, error: Any) -> None:
        if error is not None:
            self._note(test, "failed", error)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.found[test.id()] = ("skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, error: Any) -> None:
        self._note(test, "fails as expected", error)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._note(test, "passes unexpectedly")


def cases(module: ModuleType) -> Iterator[unittest.TestCase]:
    """The tests of a module, without its own ``load_tests``, which gives parts of them to several machines."""
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, unittest.TestCase) and kind.__module__ == module.__name__:
            yield from unittest.defaultTestLoader.loadTestsFromTestCase(kind)  # type: ignore[misc]


def recurrent(test: unittest.TestCase) -> bool:
    """Whether a test names a recurrent class, or its code does."""
    name = test.id().rpartition(".")[2]
    if RECURRENT.search(name):
        return True
    function = inspect.unwrap(getattr(type(test), name.split("_cpu")[0], getattr(type(test), name, recurrent)))
    try:
        return re.search(r"nn\.(RNN|GRU|LSTM)", inspect.getsource(function)) is not None
    except (OSError, TypeError):
        return False


def run(file: Path, ours: bool) -> dict[str, tuple[str, str]]:
    """The outcomes of the recurrent tests of a file; in a process of its own, since it changes torch.nn."""
    if ours:
        for module in (torch.nn, torch.nn.modules, torch.nn.modules.rnn):
            for name, kind in OURS.items():
                setattr(module, name, kind)
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location("suite", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["suite"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outcomes = Outcomes()
    for test in cases(module):
        if recurrent(test) and not re.search(r"cuda|CUDA|mps|MPS", test.id()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                test.run(outcomes)
    return outcomes.found


def in_process(file: Path, ours: bool) -> dict[str, tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "outcomes.json"
        command = [sys.executable, "-m", "benches.torch_suite", "--worker", str(file), "--out", str(out)]
        done = subprocess.run([*command, *(["--ours"] if ours else [])], capture_output=True, text=True)
        if not out.exists():
            raise SystemExit(f"{file} cannot be run (exit code {done.returncode}):\n{done.stderr[-2000:]}")
        return json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, help="the folder test of a checkout of torch")
    parser.add_argument("--files", nargs="*", default=FILES, help="files below it")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        del sys.argv[1:]
        options.out.write_text(json.dumps(run(options.worker, options.ours)))
        return
    if options.tests is None or not options.tests.is_dir():
        parser.error(f"--tests must be a folder, got {options.tests}")
    unexplained = 0
    for name in options.files:
        if (options.tests / name).exists():
            unexplained += compare(
                name, in_process(options.tests / name, False), in_process(options.tests / name, True)
            )
    raise SystemExit(1 if unexplained else 0)


def compare(file: str, theirs: dict[str, Any], ours: dict[str, Any]) -> int:
    """Print what fails with our classes only, and count what nothing explains."""
    good = ("passed", "fails as expected", "passes unexpectedly")
    print(f"{file}: {len(ours)} tests, {dict(Counter(outcome for outcome, _ in ours.values()))}")
    unexplained = 0
    for name, (outcome, said) in ours.items():
        if outcome in good or theirs[name][0] not in good:
            continue
        why = explanation(name, said)
        unexplained += why is None
        print(f"  {name.partition('.')[2]}: {said[:160]}\n    {why or 'UNEXPLAINED'}")
    return unexplained


if __name__ == "__main__":
    main()
