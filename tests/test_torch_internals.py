"""Where a private part of torch is missing, results stay the same."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from gatewise import torch_internals

RESULTS = """
import torch, gatewise as gw
torch.manual_seed(0)
layer, x = gw.LSTM(3, 5, num_layers=2), torch.randn(4, 2, 3)
y, (h, c) = layer(x)
grads = torch.autograd.grad(y.square().sum() + c.sum(), list(layer.parameters()))
with torch.autocast("cpu", torch.bfloat16):
    rounded = layer(x)[0]
each = torch.func.vmap(lambda row: layer(row[:, None])[0], in_dims=1)(x)
print([t.double().sum().item() for t in (y, h, c, *grads, rounded, each)])
"""
MISSING = """
import functools, torch
def missing(function, path, start):
    raise AttributeError(path)
functools.reduce = missing
import gatewise.torch_internals as t
assert t.observed() and t.transforms_active() and t.any_autocast()
"""


def test_results_do_not_depend_on_private_parts() -> None:
    """Without those that are looked up, everything goes the slower way."""
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for code in (RESULTS, MISSING + RESULTS)
    ]
    assert found[0] == found[1]
    assert len(found[0]) > 100


@pytest.mark.parametrize("mark", [torch_internals.constant, torch.compiler.assume_constant_result])
def test_constants_are_marked_as_torch_marks_them(mark: Callable[..., object]) -> None:
    def function() -> int:
        return 1

    assert mark(function) is function
    assert vars(function) == {"_dynamo_marked_constant": True}
