"""Models with layers as programs: of torch.jit, torch.fx, torch.export, torch.onnx and AOTInductor."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import symbolic_trace

import gatewise as gw

X = torch.linspace(-1, 1, 40, dtype=torch.float64).view(5, 2, 4)


class Tagger(nn.Module):
    """The states of a layer, read out."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.read = layer, nn.Linear(7, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x)
        return self.read(y)


class Unrolled(nn.Module):
    """A single step, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.step = gw.LSTMCell(4, 7, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        h, c = self.step(x[0])
        return self.step(x[1], (h, c))[0]


MAKE: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: Tagger(gw.GRU(4, 7, num_layers=2)),
    "lstm": lambda: Tagger(gw.LSTM(4, 7)),
    "step": Unrolled,
}
EACH = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


def results(call: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor = X) -> list[Tensor]:
    """The output, and gradients of the input and of the parameters of the model."""
    x = x.clone().requires_grad_()
    y = call(x)
    leaves = [x, *model.parameters()]
    return [y, *torch.autograd.grad((y * torch.arange(y.numel()).view(y.shape)).sum(), leaves)]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@EACH
@pytest.mark.parametrize("grad", [True, False])
def test_a_program_of_jit_trace(make: Callable[[], nn.Module], grad: bool) -> None:
    """Any number of rows and steps, and gradients, also after it was saved, and however it was recorded."""
    model, file = make(), io.BytesIO()
    with warnings.catch_warnings(), torch.set_grad_enabled(grad):
        warnings.simplefilter("ignore")  # that sizes are looked at, and that the format is an old one
        program = torch.jit.trace(model, X)
        torch.jit.save(program, file)
        file.seek(0)
        loaded = torch.jit.load(file)
    for x in (X, torch.cat([X, X[:1]]).repeat(1, 3, 1)):
        expected = results(model, model, x)
        same(results(program, model, x), expected)
        same(results(loaded, loaded, x), expected)


def test_second_derivatives_of_a_program() -> None:
    model = Tagger(gw.GRU(4, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(model, X)
    hessians = [torch.autograd.functional.hessian(lambda x, c=c: (c(x) ** 2).sum(), X) for c in (program, model)]
    torch.testing.assert_close(*hessians)


def test_an_exported_program_has_gradients() -> None:
    """Exported with gradients or without them."""
    model = Tagger(gw.GRU(4, 7))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            program = torch.export.export(model, (X,)).module()
        own = dict(program.named_parameters())
        found, expected = results(program, program), results(model, model)
        assert list(own) == [name for name, _ in model.named_parameters()]
        same(found, expected)


@EACH
def test_fx_takes_a_layer_as_one_node(make: Callable[[], nn.Module]) -> None:
    model = make()
    graph = symbolic_trace(model)
    assert next(node.target for node in graph.graph.nodes if node.op == "call_module") in ("layer", "step")
    same(results(graph, model), results(model, model))


def test_fx_passes_on_what_comes_with_x() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = gw.Recurrent(gw.cells.augru, 4, 7, dtype=torch.float64)

        def forward(self, x: Tensor, lengths: Tensor, score: Tensor) -> Tensor:
            return self.layer(x, lengths=lengths, attention=score)[1]

    model, score = Masked(), torch.rand(5, 2, dtype=torch.float64)
    lengths = torch.tensor([5, 3])
    assert torch.equal(symbolic_trace(model)(X, lengths, score), model(X, lengths, score))


@pytest.mark.parametrize("layer", [gw.GRU(4, 7), gw.GRUCell(4, 7)], ids=["layer", "step"])
def test_fx_of_a_layer_alone_is_refused(layer: nn.Module) -> None:
    with pytest.raises(RuntimeError, match=rf"got a {type(layer).__name__} alone; put it into a module"):
        symbolic_trace(layer)


@EACH
def test_jit_script_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(
        RuntimeError, match=r"torch.jit.script cannot compile .*; record the model with torch.jit.trace"
    ):
        torch.jit.script(make())


ONNX = r"torch.onnx.export does not know Gatewise's operators; pass dynamo=True and custom_translation_table"


@EACH
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_onnx_is_refused(make: Callable[[], nn.Module], grad: bool) -> None:
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match=ONNX):
        torch.onnx.export(make(), (X,), io.BytesIO(), dynamo=False)
    make()(X)  # and it is over then


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_of_an_exported_program_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model = Tagger(gw.GRU(4, 7))
    for given in (model, torch.export.export(model, (X,))):
        with pytest.raises(torch.onnx.OnnxExporterError, match=ONNX):
            torch.onnx.export(given, (X,), tmp_path / "model.onnx", dynamo=True)
    with gw.backend("eager"):
        assert torch.onnx.export(model, (X,), tmp_path / "model.onnx", dynamo=True) is not None


RELOAD = """
import sys, torch, gatewise
x, y = torch.load(sys.argv[2])
assert torch.equal(torch._inductor.aoti_load_package(sys.argv[1])(x), y)
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="AOTInductor needs a C++ compiler")
def test_aot_inductor_in_a_process_that_imports_gatewise(tmp_path: Path) -> None:
    model: Any = Tagger(gw.GRU(4, 7)).eval()
    with torch.no_grad():
        program = torch.export.export(model, (X,))
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
        torch.save((X, model(X)), tmp_path / "data.pt")
    command = [sys.executable, "-c", RELOAD, package, str(tmp_path / "data.pt")]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert result.stdout.strip() == "done", result.stderr
