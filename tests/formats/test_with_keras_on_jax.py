"""Keras on JAX, which makes float32 of float64 unless asked: in a process of its own, since Keras chooses once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax", exc_type=ImportError)
pytest.importorskip("h5py", exc_type=ImportError)
if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

PROGRAM = """
import warnings
warnings.filterwarnings("error", message="Explicitly requested dtype")
import torch
import gatewise as gw
from gatewise.errors import InputError

torch.manual_seed(0)
for suffix in (".keras", ".weights.h5"):
    for both in (False, True):
        for kind in (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN):
            theirs = kind(3, 4, bidirectional=both)
            report = gw.formats.convert(theirs, "keras", f"{kind.__name__}{both}{suffix}")
            assert report.rows[0].written_difference < 1e-6, report
print(gw.formats.to_keras(gw.LSTM(3, 4))(torch.zeros(2, 5, 3).numpy()).dtype)
try:
    gw.formats.to_keras(gw.LSTM(3, 4, dtype=torch.float64))
except InputError as error:
    print(error)
"""


def test_two_biases_that_become_one(tmp_path: Path) -> None:
    """torch.nn.LSTM has two for each gate, Keras one: the sums are checked in float64 all the same."""
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("float32")
    assert second == "the layer is in float64, of which Keras on JAX makes float32 unless jax_enable_x64 is set"
