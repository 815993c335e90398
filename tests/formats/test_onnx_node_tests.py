"""The node tests that the ``onnx`` package ships for GRU, LSTM and RNN, through the importer."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx", exc_type=ImportError)
CALLED = ("X", "sequence_lens", "initial_h", "initial_c")


def cases() -> list[Any]:
    """They are made where these modules are imported."""
    package = "onnx.backend.test.case.node"
    for name in ("gru", "lstm", "rnn"):
        importlib.import_module(f"{package}.{name}")
    made = importlib.import_module(package)._NodeTestCases
    return [c for c in made if c.name.startswith(("test_gru_", "test_lstm_", "test_rnn_", "test_simple_rnn_"))]


def test_there_are_such_tests() -> None:
    assert len(cases()) >= 15


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_node(case: Any) -> None:
    """Weights are inputs of these graphs; here they are constants of them, as in a model."""
    from gatewise.formats.onnx_in import onnx_modules

    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    ((inputs, expected),) = case.data_sets
    given = dict(zip([i.name for i in model.graph.input], inputs, strict=True))
    (node,) = model.graph.node
    roles = dict(zip(("X", "W", "R", "B", *CALLED[1:]), node.input, strict=False))
    dynamic = {role: roles[role] for role in CALLED if roles.get(role)}
    constants = [onnx.numpy_helper.from_array(v, n) for n, v in given.items() if n not in dynamic.values()]
    model.graph.initializer.extend(constants)
    (module,) = onnx_modules(model).values()
    results = module(**{role: torch.from_numpy(given[place].copy()) for role, place in dynamic.items()})
    present = [k for k, name in enumerate(node.output) if name]
    for k, value in zip(present, expected, strict=True):
        np.testing.assert_allclose(results[k].detach().numpy(), value, rtol=1e-5, atol=1e-6)
