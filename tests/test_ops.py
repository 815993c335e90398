"""The torch boundary: the operators' contracts with torch, derivatives of every order, threads, forks, refusals."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import PARAMETERS, Case, evaluate, problem, same_bits
from kernel_cells import ALL
from torch import Tensor

import gatewise as gw
from gatewise import Cell, ops
from gatewise.backends import eager, prologue
from gatewise.backends.cpu import tiers
from gatewise.ops.operators import Keep

pytestmark = pytest.mark.usefixtures("poisoned")

FEW = [ALL[name] for name in ("gru", "lstm", "driven", "masked", "closed", "gru_d", "vectors")]
few_cells = pytest.mark.parametrize("cell", FEW, ids=lambda c: c.name)


def arguments(cell: Cell, **changes: Any) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """A cell as a function of its tensors, and tensors."""
    p = problem(Case(cell, torch.float64, hidden=3, batch=2, steps=3, inputs=2, **changes))
    names = list(p.tensors)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, tensors, strict=True))
        keywords = {k.removeprefix("in."): v for k, v in given.items() if k.startswith("in.")}
        states = [v for k, v in given.items() if k.startswith("state.")]
        parameters = {k: v for k, v in given.items() if k.startswith(PARAMETERS)}
        y, finals = ops.run(cell, given["x"], keywords, states, parameters, reverse=p.case.reverse)
        return (y, *finals)

    return function, list(p.tensors.values())


def total(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Tensor]:
    """A number that weighs every result differently."""

    def number(*tensors: Tensor) -> Tensor:
        return sum(  # type: ignore[return-value]
            (v * torch.linspace(0.5, 1.5, v.numel(), dtype=v.dtype).view(v.shape)).sum() for v in function(*tensors)
        )

    return number


def close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@few_cells
@pytest.mark.parametrize("keep", Keep)
@pytest.mark.parametrize("steps", [0, 4])
def test_operators_keep_torchs_rules(cell: Cell, keep: Keep, steps: int) -> None:
    """Schemas, fakes and aliasing, of the forward and of the backward."""
    p = problem(Case(cell, torch.float64, hidden=3, batch=2, steps=steps, inputs=2))  # as in ``arguments``
    leaves = {"x": p.tensors["x"], **p.of("in.")}
    leaves |= eager.vectors_over_time(cell, p.parameters(), leaves["x"])
    ways, results, elements = prologue.prologue(cell.text)
    terms = [leaves[n] for n in elements]
    parameters = {n: v for n, v in p.parameters().items() if not n.startswith("vector")}
    operands = prologue.operands(ways, results, leaves) or ([] if terms else [leaves["x"]])
    parts = operands, terms, list(p.of("state.").values()), list(parameters.values())
    options = ops.CallOptions.text(
        f"cpu/{tiers.default().name}", False, keep, [len(part) for part in parts[:3]], tuple(parameters)
    )
    flat = [t for part in parts for t in part]
    torch.library.opcheck(
        torch.ops.gatewise.forward, (cell.text, options, flat), test_utils=("test_schema", "test_faketensor")
    )
    if keep is not Keep.NOTHING:
        y, _, saved = torch.ops.gatewise.forward(cell.text, options, flat)
        count = sum(len(part) for part in parts)
        for dy, finals in (
            (p.cotangents["y"], [None] * len(cell.states)),
            (None, [p.cotangents[s] for s in cell.states]),
        ):
            first = cell.name != "closed"  # whose operand only says how many steps there are
            for wanted in ([first] + [True] * (count - 1), [first and k % 2 == 0 for k in range(count)]):
                torch.library.opcheck(
                    torch.ops.gatewise.backward,
                    (cell.text, options, flat, y, saved, dy, finals, wanted),
                    test_utils=("test_schema", "test_faketensor"),
                )


@few_cells
@pytest.mark.parametrize("reverse", [False, True])
def test_numerical_gradients(cell: Cell, reverse: bool) -> None:
    function, tensors = arguments(cell, reverse=reverse)
    tensors = [t.requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)


@few_cells
def test_numerical_second_derivatives(cell: Cell) -> None:
    function, tensors = arguments(cell)
    tensors = [t.requires_grad_() for t in tensors]
    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)


@few_cells
def test_functional_transforms(cell: Cell) -> None:
    """grad, vjp, jacrev, nested jacrev, vmap and vmap of grad, each against the reference."""
    function, tensors = arguments(cell)
    everything = tuple(range(len(tensors)))
    batched = [torch.stack([t, 0.5 * t, -t]) for t in tensors]

    def results() -> dict[str, Any]:
        state = next(k for k, t in enumerate(tensors) if t.shape == (2, 3))
        return {
            "grad": torch.func.grad(total(function), everything)(*tensors),
            "jacrev": torch.func.jacrev(lambda s: function(*tensors[:state], s, *tensors[state + 1 :])[0])(
                tensors[state]
            ),
            "second": torch.func.jacrev(
                torch.func.jacrev(lambda s: total(function)(*tensors[:state], s, *tensors[state + 1 :]))
            )(tensors[state]),
            "vmap": torch.func.vmap(function)(*batched),
            "vmap of some": torch.func.vmap(lambda s: function(*tensors[:state], s, *tensors[state + 1 :]))(
                batched[state]
            ),
            "vmap of grad": torch.func.vmap(torch.func.grad(total(function), everything))(*batched),
        }

    found = results()
    with gw.backend("eager"):
        expected = results()
    for name, value in expected.items():
        close(found[name], value)


def test_forward_mode_says_what_to_do() -> None:
    function, tensors = arguments(FEW[0])
    sentence = "forward-mode derivatives are not computed by kernels"
    tangents = tuple(torch.ones_like(t) for t in tensors)
    with pytest.raises(RuntimeError, match=sentence):
        torch.func.jvp(function, tuple(tensors), tangents)
    with pytest.raises(RuntimeError, match=sentence):
        torch.func.hessian(lambda x: total(function)(x, *tensors[1:]))(tensors[0])
    with torch.autograd.forward_ad.dual_level(), pytest.raises(RuntimeError, match=sentence):
        function(torch.autograd.forward_ad.make_dual(tensors[0], torch.ones_like(tensors[0])), *tensors[1:])
    with gw.backend("eager"):
        torch.func.jvp(function, tuple(tensors), tangents)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("cell", [*FEW[:3], ALL["gru_d"]], ids=lambda c: c.name)
def test_compile(cell: Cell, backend: str) -> None:
    torch.compiler.reset()
    function, tensors = arguments(cell)
    compiled = torch.compile(total(function), fullgraph=True, backend=backend)
    leaves = [t.clone().requires_grad_() for t in tensors]
    others = [t.clone().requires_grad_() for t in tensors]
    value, expected = compiled(*leaves), total(function)(*others)
    close(value, expected)
    value.backward()
    expected.backward()
    close([t.grad for t in leaves], [t.grad for t in others])


class Layer(torch.nn.Module):
    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.function, tensors = arguments(cell)
        self.x = tensors[0]
        self.rest = torch.nn.ParameterList(tensors[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.rest)[0]


@pytest.mark.parametrize("cell", [*FEW[:2], ALL["vectors"]], ids=lambda c: c.name)
def test_export(cell: Cell) -> None:
    layer = Layer(cell)
    program = torch.export.export(layer, (layer.x,))
    close(program.module()(layer.x), layer(layer.x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_cannot_run_raises(dtype: torch.dtype) -> None:
    p = problem(Case(FEW[0], dtype))
    with pytest.raises(RuntimeError, match="computes in float32 and float64, but the tensors are"):
        evaluate(p, "cpu")
    assert evaluate(p, "auto", grad=False)["y"].dtype == dtype
    with pytest.raises(ValueError, match="backend must be one of auto, cpu, cuda, eager, got 'gpu'"):
        evaluate(p, "gpu")


def test_many_threads_call_one_layer() -> None:
    p = problem(Case(FEW[0], batch=9, hidden=100, seed=3))
    expected = evaluate(p, "cpu")
    found: list[dict[str, Tensor]] = []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        for _ in range(5):
            found.append(evaluate(p, "cpu"))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert len(found) == 30
    for results in found:
        same_bits(expected, results)


FORK = """
import os, sys, torch
from comparing import PARAMETERS, Case, evaluate, problem, same_bits
from kernel_cells import ALL
torch.set_num_threads(2)
p, q = (problem(Case(ALL["gru"], batch=b, hidden=100)) for b in (17, 3))
expected = evaluate(p, "cpu"), evaluate(q, "cpu")
child = os.fork()
if child == 0:
    same_bits(expected[0], evaluate(p, "cpu", grad=True))
    same_bits(expected[1], evaluate(q, "cpu", grad=True))
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
same_bits(expected[0], evaluate(p, "cpu"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_computes() -> None:
    path = os.pathsep.join([str(Path(__file__).parent / "support"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", FORK], env={**os.environ, "PYTHONPATH": path}, timeout=120)
    assert done.returncode == 0


def test_an_exported_program_needs_only_the_text() -> None:
    """The operator takes a cell by its text: one of the same text that was never defined here runs too."""
    text = FEW[0].text.replace("gru", "renamed", 1)
    p = problem(Case(FEW[0]))
    options = ops.CallOptions.text(f"cpu/{tiers.default().name}", False, Keep.NOTHING, (1, 0, 1), tuple(p.parameters()))
    y, _, _ = torch.ops.gatewise.forward(
        text, options, [p.tensors["x"], p.tensors["state.h"], *p.parameters().values()]
    )
    same_bits({"y": evaluate(p, "cpu", grad=False)["y"]}, {"y": y})
