"""Layers and single steps in ONNX Runtime: every cell, every option, and faults that the comparison finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asymmetric import asymmetric
from cells_zoo import ZOO

import gatewise as gw
from gatewise.errors import InputError

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
pytest.importorskip("onnx_ir")

from gatewise.formats.onnx import Exported, export, standard  # noqa: E402
from gatewise.formats.onnx.exporting import Problem  # noqa: E402
from gatewise.formats.onnx.layer import Options  # noqa: E402
from gatewise.formats.onnx.step import Maps  # noqa: E402

CELLS = {name: gw.cells.get(name) for name in gw.cells.names()} | ZOO
STANDARD = {"gru": "GRU", "gru_reset_after": "GRU", "lstm": "LSTM", "lstm_peephole": "LSTM", "rnn": "RNN"}
STANDARD |= {"rnn_relu": "RNN", "gru_renew": "GRU"}


@gw.cell
def everything(gate, x, h, c, *, m="input", a=gw.vector("input")):
    """A choice, a peephole, a vector and a gate in two halves."""
    i = gw.sigmoid(gate.i(a * x + m, h, gw.diagonal(c)))
    n = gw.tanh(gate.n(x) + i * gate.n(h))
    c = gw.where(n > 0.1 * c, i * c + (1 - i) * n, gw.minimum(c, n) - 0.1)
    return gw.hard_sigmoid(gate.o(x, gw.diagonal(c))) * gw.tanh(c), c


CELLS["everything"] = everything


def layers_of(cell: gw.Cell) -> int:
    return 1 if "input" in dict(cell.inputs).values() else 2


def written(module: Any, path: Path, **how: Any) -> Exported:
    found = export(asymmetric(module), path / "model.onnx", **how)
    onnx.checker.check_model(str(found.path), full_check=True)
    assert {node.domain for node in onnx.load(found.path).graph.node} == {""}
    return found


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_exported(name: str, tmp_path: Path) -> None:
    found = written(gw.Recurrent(CELLS[name], 3, 5, layers_of(CELLS[name])), tmp_path)
    assert found.opset == 18
    if name in STANDARD:
        assert found.operators[STANDARD[name]] == 2
        assert "Scan" not in found.operators
    else:
        assert found.operators["Scan"] == layers_of(CELLS[name])


@pytest.mark.parametrize("name", CELLS)
def test_lengths_and_resets_in_both_directions(name: str, tmp_path: Path) -> None:
    """Rows of no step among them."""
    cell = CELLS[name]
    learned = bool(cell.parameter_shapes(3, 5))
    layer = gw.Recurrent(cell, 3, 5, layers_of(cell), batch_first=True, bidirectional=True, learn_initial_state=learned)
    written(layer, tmp_path, lengths=True)
    written(layer, tmp_path, lengths=True, reset=True, force=True)


@pytest.mark.parametrize("name", ["gru", "lstm_peephole", "everything", "piecewise", "vectors"])
def test_float64_and_no_bias(name: str, tmp_path: Path) -> None:
    """ONNX Runtime computes GRU, LSTM and RNN in float32 alone: a Scan takes their place."""
    cell = CELLS[name]
    layer = gw.Recurrent(cell, 4, 7, layers_of(cell), bias=False, dtype=torch.float64)
    found = written(layer, tmp_path, reset=True)
    assert found.difference < 1e-14
    assert found.operators["Scan"] == layers_of(cell)


@pytest.mark.parametrize("how", [{}, {"lengths": True}, {"lengths": True, "reset": True}], ids=["plain", "l", "lr"])
@pytest.mark.parametrize(
    "layer",
    [
        gw.GRU(3, 7, 2, reset_after=True, bidirectional=True),
        gw.LSTM(3, 7, 2, proj_size=4, bidirectional=True),
        gw.LSTM(1, 1, batch_first=True, dropout=0.0),
        gw.RNN(3, 4, 3, "relu"),
        gw.Recurrent(gw.cells.gru, 3, 4, redundant_bias=True),
    ],
    ids=["gru", "projected", "single", "relu", "redundant"],
)
def test_drop_in_layers(layer: gw.Recurrent, how: dict[str, bool], tmp_path: Path) -> None:
    written(layer, tmp_path, **how)


@pytest.mark.parametrize(
    "module",
    [gw.GRUCell(3, 5), gw.GRUCell(3, 5, reset_after=True), gw.LSTMCell(4, 3), gw.RNNCell(3, 4, bias=False)],
    ids=["gru", "gru reset after", "lstm", "rnn"],
)
def test_single_steps(module: torch.nn.Module, tmp_path: Path) -> None:
    found = written(module, tmp_path)
    assert "Scan" not in found.operators


def test_states_batch_and_time_of_the_file_are_free(tmp_path: Path) -> None:
    """What a stranger does with it: any sizes, state carried by hand."""
    layer = asymmetric(gw.Recurrent(gw.cells.mgu, 3, 5))
    path = export(layer, tmp_path / "mgu.onnx").path
    session = onnxruntime.InferenceSession(str(path))
    x, h = torch.randn(9, 4, 3), np.zeros((1, 4, 5), np.float32)
    outputs = []
    for part in np.split(x.numpy(), [2, 3]):
        y, h = session.run(["output", "h_n"], {"input": part, "h_0": h})
        outputs.append(y)
    with torch.no_grad():
        expected, final = layer(x)
    np.testing.assert_allclose(np.concatenate(outputs), expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(h, final.numpy(), atol=1e-6)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    layer = asymmetric(gw.Recurrent(gw.cells.lstm, 2, 3, learn_initial_state=True))
    found = export(layer, tmp_path / "a.onnx")
    said = {entry.key: entry.value for entry in onnx.load(found.path).metadata_props}
    assert said["cell"] == gw.cells.lstm.text
    assert float(said["difference"]) == pytest.approx(found.difference, rel=0.1)
    assert eval(said["initial_states"])["c"] == [layer.h_0_l0[1].tolist()]
    assert found.inputs == {"input": ("time", "batch", 2), "h_0": (1, "batch", 3), "c_0": (1, "batch", 3)}
    assert found.outputs == {"output": ("time", "batch", 3), "h_n": (1, "batch", 3), "c_n": (1, "batch", 3)}
    assert f"{found.difference:.1e}" in str(found)


def test_the_reference_evaluator_of_onnx_agrees(tmp_path: Path) -> None:
    """Another reader of the standard than ONNX Runtime."""
    layer = asymmetric(gw.Recurrent(everything, 3, 5))
    model = onnx.load(export(layer, tmp_path / "a.onnx", lengths=True).path)
    with torch.no_grad():
        problem = Problem(layer, 6, 4, torch.Generator().manual_seed(1), Options(lengths=True))
        found = reference.ReferenceEvaluator(model).run(None, problem.arrays())
        for value, expected in zip(found, problem.expected().values(), strict=True):
            np.testing.assert_allclose(value, expected, atol=1e-6)


def test_training_mode_and_dropout_stay_out(tmp_path: Path) -> None:
    layer = asymmetric(gw.GRU(3, 4, 2, dropout=0.5)).train()
    assert export(layer, tmp_path / "a.onnx").difference < 1e-6
    assert layer.training


def test_parametrised_weights_are_as_they_act(tmp_path: Path) -> None:
    """Weight normalisation in a layer and in a single step."""
    from torch.nn.utils.parametrizations import weight_norm

    layer = weight_norm(asymmetric(gw.GRU(3, 4, reset_after=True)), "weight_hh_l0")
    assert export(layer, tmp_path / "a.onnx").difference < 1e-6
    step = weight_norm(asymmetric(gw.GRUCell(3, 4)), "weight_hh")
    assert export(step, tmp_path / "b.onnx").difference < 1e-6


# Faults


def swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    gates = (("r", False), ("z", False), ("n", False))
    wrong = standard.Standard("GRU", gates, attributes={"linear_before_reset": 1})
    monkeypatch.setitem(standard.STANDARD, gw.cells.gru_reset_after, wrong)


def not_linear_before_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(standard.STANDARD[gw.cells.gru_reset_after].attributes, "linear_before_reset", 0)


def without_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Maps.block
    monkeypatch.setattr(Maps, "block", lambda m, b, name, gate: None if name == "bias_hh" else block(m, b, name, gate))


def wrong_way(monkeypatch: pytest.MonkeyPatch) -> None:
    run = standard.run
    monkeypatch.setattr(
        "gatewise.formats.onnx.layer.run", lambda b, k, ways, *rest: run(b, k, list(reversed(ways)), *rest)
    )


@pytest.mark.parametrize("fault", [swapped, not_linear_before_reset, without_bias, wrong_way])
def test_planted_faults_are_found_and_nothing_is_written(
    fault: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layer = asymmetric(gw.GRU(3, 5, 2, reset_after=True, bidirectional=True))
    fault(monkeypatch)
    with pytest.raises(InputError, match=r"differs from Gatewise's by .* nothing was written"):
        export(layer, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [without_bias])
def test_planted_faults_in_a_scan_are_found(fault: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fault(monkeypatch)
    with pytest.raises(InputError, match="nothing was written"):
        export(asymmetric(gw.GRU(3, 5, reset_after=True)), tmp_path / "a.onnx", reset=True)
    assert list(tmp_path.iterdir()) == []


# What is refused


@pytest.mark.parametrize(
    ("module", "how", "words"),
    [
        (torch.nn.Linear(2, 3), {}, "custom_translation_table"),
        (gw.GRU(2, 3).bfloat16(), {}, "must be float32 or float64 to be exported, got bfloat16"),
        (gw.GRU(2, 3, device="meta"), {}, "meta device"),
        (gw.GRUCell(2, 3), {"lengths": True}, "one step has neither"),
    ],
    ids=["foreign", "bfloat16", "meta", "step"],
)
def test_what_cannot_be_exported_is_refused(module: Any, how: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        export(module, tmp_path / "a.onnx", **how)
    assert list(tmp_path.iterdir()) == []


def test_weights_beyond_what_a_file_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewise.formats.onnx.exporting.MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="must be at most 1 MB for one ONNX file, got 6 MB"):
        export(gw.GRU(512, 512), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_written_over_by_force_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists; choose another name"):
        export(gw.GRU(2, 3), path)
    assert path.read_text() == "mine"
    export(gw.GRU(2, 3), path, force=True)
    assert onnx.load(path).graph.node
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
