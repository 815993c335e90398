"""torch.onnx.export(dynamo=True) of models with layers in them, through the table that is handed out."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asymmetric import asymmetric
from cells_zoo import ZOO
from torch import Tensor, nn

import gatewise as gw

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter warns of its own parts

SIZES = ((5, 6), (1, 1), (3, 9))
"""Rows and steps; the first are those of the example."""


class Tagger(nn.Module):
    """A layer with lengths between other modules, whose final state is asked for too."""

    def __init__(self, layer: gw.Recurrent) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(11, 4), layer
        self.read = nn.Linear(layer.hidden_size * layer.num_directions, 3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.layer(self.embed(tokens), lengths=lengths)
        return self.read(y.relu()) + 1, 2 * (state[-1] if isinstance(state, tuple) else state)


def problem(rows: int, steps: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    lengths = torch.randint(steps + 1, (rows,), generator=generator)
    return torch.randint(11, (rows, steps), generator=generator), lengths


def exported(model: Any, example: tuple[Tensor, ...], shapes: Any) -> bytes:
    table = gw.formats.onnx.translations()
    place = io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            model, example, dynamo=True, dynamic_shapes=shapes, custom_translation_table=table, verbose=False
        )
    assert program is not None
    program.save(place)
    return place.getvalue()


def run(content: bytes, *arguments: Tensor) -> list[Any]:
    session = onnxruntime.InferenceSession(content)
    names = [one.name for one in session.get_inputs()]
    return session.run(None, {name: value.numpy() for name, value in zip(names, arguments, strict=True)})


LAYERS = {
    "gru": (lambda: gw.GRU(4, 7, 2, batch_first=True, bidirectional=True, reset_after=True), "GRU"),
    "lstm": (lambda: gw.LSTM(4, 7, batch_first=True), "LSTM"),
    "peephole": (lambda: gw.Recurrent(gw.cells.lstm_peephole, 4, 7, batch_first=True), "LSTM"),
    "mgu": (lambda: gw.Recurrent(gw.cells.mgu, 4, 7, batch_first=True), "Scan"),
    "halves": (lambda: gw.Recurrent(ZOO["halves"], 4, 7, batch_first=True), "Scan"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_around_a_layer(name: str) -> None:
    make, operator = LAYERS[name]
    model = asymmetric(Tagger(make())).eval()
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    content = exported(model, problem(*SIZES[0]), ({0: batch, 1: time}, {0: batch}))
    kinds = {node.op_type for node in onnx.load_from_string(content).graph.node}
    assert operator in kinds
    for rows, steps in SIZES:
        arguments = problem(rows, steps)
        with torch.no_grad():
            expected = model(*arguments)
        for value, found in zip(expected, run(content, *arguments), strict=True):
            np.testing.assert_allclose(found, value.numpy(), atol=5e-6)


def test_a_program_that_was_exported_before() -> None:
    """Its graph holds the operator with all its results, one of which is a list."""
    model = asymmetric(Tagger(gw.GRU(4, 7, batch_first=True))).eval()
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    shapes = ({0: batch, 1: time}, {0: batch})
    program = torch.export.export(model, problem(*SIZES[0]), dynamic_shapes=shapes)
    content = exported(program, problem(*SIZES[0]), None)
    arguments = problem(*SIZES[2])
    with torch.no_grad():
        expected = model(*arguments)
    np.testing.assert_allclose(run(content, *arguments)[0], expected[0].numpy(), atol=5e-6)


class Series(nn.Module):
    """A cell whose equations compute with inputs and vectors before a product, and with its states given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = gw.Recurrent(gw.cells.gru_d, 3, 5)

    def forward(self, x: Tensor, mask: Tensor, gap: Tensor, last: Tensor, h: Tensor, reset: Tensor) -> tuple[Any, Any]:
        y, state = self.layer(x, h, mask=mask, gap=gap, last=last, reset=reset)
        return y, state


def test_keyword_inputs_vectors_and_resets() -> None:
    model = asymmetric(Series()).eval()

    def arguments(steps: int, rows: int) -> tuple[Tensor, ...]:
        return *torch.rand(4, steps, rows, 3).unbind(0), torch.randn(1, rows, 5), torch.rand(steps, rows) < 0.4

    time, batch = torch.export.Dim("time"), torch.export.Dim("batch")
    lead = {0: time, 1: batch}
    content = exported(model, arguments(4, 3), (lead, lead, lead, lead, {1: batch}, lead))
    for sizes in ((4, 3), (7, 1), (1, 5)):
        given = arguments(*sizes)
        with torch.no_grad():
            expected = model(*given)
        for value, found in zip(expected, run(content, *given), strict=True):
            np.testing.assert_allclose(found, value.numpy(), atol=5e-6)


@pytest.fixture
def without_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where nobody asked for it."""
    import sys

    monkeypatch.delitem(sys.modules, "gatewise.formats.onnx.translation", raising=False)


@pytest.mark.usefixtures("without_table")
def test_without_the_table_a_sentence_says_what_works() -> None:
    model = asymmetric(Tagger(gw.GRU(4, 7, batch_first=True))).eval()
    with pytest.raises(torch.onnx.OnnxExporterError, match=r"custom_translation_table=gatewise.formats.onnx"):
        torch.onnx.export(model, problem(5, 6), dynamo=True, verbose=False)


def test_steps_are_not_written_out_unasked(tmp_path: Path) -> None:
    """A graph for the steps of the example alone would be wrong for every other sequence."""
    model = gw.LSTM(4, 7, proj_size=3).eval()
    with pytest.raises(torch.onnx.OnnxExporterError, match="write out the steps of the example alone, since proj_size"):
        exported(model, (torch.randn(4, 2, 4),), None)
    with gw.backend("eager"):
        assert exported(model, (torch.randn(4, 2, 4),), None)


class Largest(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = x.cummax(-1)
        return found.values, found.indices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_the_largest_so_far(dtype: torch.dtype) -> None:
    """Which ``gaps`` asks for; of equal values the last one."""
    x = torch.randint(-4, 4, (3, 5, 9), generator=torch.Generator().manual_seed(0)).to(dtype)
    content = exported(Largest(), (x,), ({0: torch.export.Dim("rows"), 2: torch.export.Dim("steps")},))
    for given in (x, x[:1, :, :1], x[:2, :, 2:7]):
        expected = given.cummax(-1)
        values, indices = run(content, given.contiguous())
        np.testing.assert_array_equal(values, expected.values.numpy())
        np.testing.assert_array_equal(indices, expected.indices.numpy())
