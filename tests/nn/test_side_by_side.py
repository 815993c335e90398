"""Directions and layers side by side, where one call leaves threads idle: the bits, gradients and errors of calls in
turn, which is what one thread does."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from idling import fresh, inference, inputs, on_threads, programs, same, training
from kernel_cells import ALL, BUILT_IN
from layer_problems import flat
from torch import Tensor

import gatewise as gw
from gatewise import ops
from gatewise.backends.cpu import launch, openmp
from gatewise.backends.kernels import gradients

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not openmp.available(), reason="kernels have one thread on this system"),
]

SIZES = (37, 2, 5, 9)  # three parts of a wave-front, the last of another length
STACKS: dict[str, dict[str, Any]] = {
    "both ways": {"bidirectional": True},
    "two layers": {"num_layers": 2},
    "three layers": {"num_layers": 3, "batch_first": True},
    "both ways twice": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


@pytest.fixture(autouse=True)
def _small_calls_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls need not be long to be shared out."""
    monkeypatch.setattr(launch, "WORTH_A_REGION", 0)
    with fresh():
        yield


def made(cell: gw.Cell, stack: dict[str, Any], **more: Any) -> gw.Recurrent:
    torch.manual_seed(3)
    wide = any(width == "input" for _, width in cell.inputs)
    return gw.Recurrent(cell, SIZES[2], SIZES[3], **{**stack, **({"num_layers": 1} if wide else {}), **more})


def given(layer: gw.Recurrent, steps: int = SIZES[0], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    torch.manual_seed(4)
    found = inputs(layer.cell, (steps, *SIZES[1:]), dtype)
    return {n: v.transpose(0, 1) for n, v in found.items()} if layer.batch_first else found


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_cell(name: str, stack: str) -> None:
    layer = made(BUILT_IN[name], STACKS[stack])
    x = given(layer)
    same(on_threads(2, inference, layer, x), on_threads(1, inference, layer, x))
    if layer.bidirectional or not (layer.cell.inputs or layer.num_layers == 1):
        assert programs() > 0
    same(on_threads(2, training, layer, x), on_threads(1, training, layer, x))


@pytest.mark.parametrize("name", ["vectors", "driven", "delayed", "closed"])
def test_cells_that_take_other_ways(name: str) -> None:
    for stack in ("both ways", "three layers"):
        layer = made(ALL[name], STACKS[stack], dtype=torch.float64)
        x = given(layer, dtype=torch.float64)
        for work in (inference, training):
            same(on_threads(2, work, layer, x), on_threads(1, work, layer, x))


@pytest.mark.parametrize("steps", [0, 1, 3, 16, 17, 64, 101])
@pytest.mark.parametrize("stack", STACKS)
def test_any_number_of_steps(stack: str, steps: int) -> None:
    for cell in (ALL["gru"], ALL["lstm"]):
        layer = made(cell, STACKS[stack])
        x = given(layer, steps)
        states = [torch.randn(layer.num_layers * layer.num_directions, *SIZES[1::2]) for _ in cell.states]
        x["hx"] = states[0] if len(states) == 1 else tuple(states)
        for work in (inference, training):
            same(on_threads(2, work, layer, x), on_threads(1, work, layer, x))


@pytest.mark.parametrize("stack", ["both ways", "three layers"])
@pytest.mark.parametrize("more", [{"recompute": True}, {"learn_initial_state": True}, {"bias": False}], ids=str)
def test_layers_with_options(stack: str, more: dict[str, Any]) -> None:
    layer = made(ALL["lstm"], STACKS[stack], **more)
    x = given(layer)
    x["reset"] = torch.rand(x["input"].shape[:2]) < 0.2
    for work in (inference, training):
        same(on_threads(2, work, layer, x), on_threads(1, work, layer, x))
    x = {"input": x["input"], "lengths": torch.tensor([20, 37])}
    for work in (inference, training):
        same(on_threads(2, work, layer, x), on_threads(1, work, layer, x))


def test_unbatched_in_bfloat16_and_under_autocast() -> None:
    for stack in STACKS.values():
        layer = made(ALL["gru"], stack)
        x = torch.randn(37, SIZES[2])
        expected = on_threads(1, inference, layer, {"input": x})
        same(on_threads(2, inference, layer, {"input": x}), expected)
        half = made(ALL["gru"], stack).bfloat16()
        rounded = {"input": x.bfloat16()}
        same(on_threads(2, inference, half, rounded), on_threads(1, inference, half, rounded))
        with torch.autocast("cpu"):
            same(on_threads(2, inference, layer, {"input": x}), on_threads(1, inference, layer, {"input": x}))


def test_more_threads_than_there_is_to_share() -> None:
    for stack in STACKS.values():
        layer = made(ALL["gru"], stack)
        x = given(layer)
        expected = on_threads(1, training, layer, x)
        for count in (3, 5):
            same(on_threads(count, training, layer, x), expected)


def test_chunks_are_the_whole() -> None:
    layer = made(ALL["lstm"], STACKS["three layers"])
    x = given(layer)["input"]

    def chunked() -> list[Tensor]:
        outputs, state = [], None
        with torch.no_grad():
            for part in x.split([5, 30, 2], 1):
                y, state = layer(part, state)
                outputs.append(y)
        return [torch.cat(outputs, 1), *flat(state)]

    same(on_threads(2, chunked), on_threads(1, inference, layer, {"input": x}))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_direction_that_no_gradient_reaches_has_none(which: int) -> None:
    """Rather than zeros; where none reaches the second, its final state says how."""
    cell = ALL["gru"]
    layer = made(cell, STACKS["both ways"])
    parameters = [{n: getattr(layer, f"{n}_l0{end}") for n in ("weight_ih", "weight_hh")} for end in ("", "_reverse")]
    x = torch.randn(37, 2, SIZES[2])

    def work() -> list[Tensor | None]:
        sides = [ops.Side({}, [torch.zeros(2, SIZES[3])], own, d == 1) for d, own in enumerate(parameters)]
        (forth, _), (back, (state,)) = ops.run_sides(cell, x, sides)
        loss = (forth, back, state)[which].square().sum()
        return list(torch.autograd.grad(loss, [p for own in parameters for p in own.values()], allow_unused=True))

    found, expected = on_threads(2, work), on_threads(1, work)
    assert programs() > 0
    assert [g is None for g in found] == [g is None for g in expected] == [which > 0] * 2 + [which == 0] * 2
    same(*[[g for g in grads if g is not None] for grads in (found, expected)])


@pytest.mark.parametrize("trained", ["weight_hh_l0", "weight_hh_l1", "weight_hh_l2", "bias", "_l0", "_l2"])
@pytest.mark.parametrize("stack", ["both ways", "both ways twice", "three layers"])
def test_frozen_parameters_and_input(stack: str, trained: str) -> None:
    layer = made(ALL["gru"], STACKS[stack])
    for name, p in layer.named_parameters():
        p.requires_grad_(trained in name)
    x = given(layer)["input"]
    wanted = [p for p in layer.parameters() if p.requires_grad]

    def work() -> list[Tensor]:
        return list(torch.autograd.grad(layer(x)[0].square().sum(), wanted)) if wanted else []

    same(on_threads(2, work), on_threads(1, work))


@pytest.mark.parametrize("stack", STACKS)
def test_a_gradient_that_several_add_to_has_the_bits_of_calls_in_turn(stack: str) -> None:
    layer = made(ALL["gru"], STACKS[stack])
    before = torch.randn(37, 2, 5, requires_grad=True)

    def work() -> list[Tensor]:
        x = before * 3
        y, h = layer(x)
        z, _ = layer(x + 1)
        loss = (y * z).sum() + (x**3).sum() + h.sum()
        return [*torch.autograd.grad(loss, [before, *layer.parameters()])]

    same(on_threads(2, work), on_threads(1, work))


@pytest.mark.parametrize("stack", STACKS)
def test_loss_of_the_final_states_alone(stack: str) -> None:
    layer = made(ALL["lstm"], STACKS[stack])
    x = given(layer)["input"]

    def work() -> list[Tensor]:
        _, (h, c) = layer(x)
        return list(torch.autograd.grad(h.square().sum() + c[-1].sum(), list(layer.parameters())))

    same(on_threads(2, work), on_threads(1, work))


@pytest.mark.parametrize("stack", STACKS)
def test_a_backward_whose_sums_are_taken_in_spans(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "PART", 1 << 10)
    layer = made(ALL["lstm"], STACKS[stack])
    x = given(layer, 1100)
    same(on_threads(2, training, layer, x), on_threads(1, training, layer, x))


def test_dropout_between_layers_runs_in_turn() -> None:
    layer = made(ALL["gru"], STACKS["three layers"], dropout=0.5)
    x = given(layer)

    def work(run: Any) -> list[Tensor]:
        torch.manual_seed(5)
        found: list[Tensor] = run(layer, x)
        return found

    same(on_threads(2, work, training), on_threads(1, work, training))
    assert programs() == 0
    layer.eval()
    same(on_threads(2, work, inference), on_threads(1, work, inference))
    assert programs() == 1


@pytest.mark.parametrize("stack", ["both ways", "three layers"])
def test_further_derivatives_and_transformations(stack: str) -> None:
    layer = made(ALL["gru"], STACKS[stack], dtype=torch.float64)
    x = given(layer, 7, torch.float64)["input"].requires_grad_()

    def twice() -> list[Tensor]:
        y, h = layer(x)
        first = torch.autograd.grad(y.square().sum() + h.sum(), x, create_graph=True)[0]
        return list(torch.autograd.grad(first.square().sum(), [x, *layer.parameters()]))

    def batched() -> list[Tensor]:
        y, _ = layer(x)
        arriving = torch.arange(3.0, dtype=y.dtype).view(3, 1, 1, 1).expand(3, *y.shape)
        return list(torch.autograd.grad(y, [x, *layer.parameters()], arriving, is_grads_batched=True))

    def mapped() -> list[Tensor]:
        return flat(torch.func.vmap(layer)(torch.stack([x, x + 1]).detach()))

    for work in (twice, batched, mapped):
        found, expected = on_threads(2, work), on_threads(1, work)
        if work is twice:  # eager adds in another order where a function has several calls
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        else:
            same(found, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("stack", ["both ways", "two layers"])
def test_programs_record_calls_in_turn(stack: str) -> None:
    """As on one thread, so that a program runs everywhere."""
    layer = made(ALL["gru"], STACKS[stack])
    x = given(layer)["input"]
    before = programs()

    def traced() -> list[Tensor]:
        with torch.no_grad():
            program = torch.jit.trace(layer, x, check_trace=False)
            exported = torch.export.export(layer, (x,))
            assert [str(n.target) for n in exported.graph.nodes].count("gatewise.forward.default") == 2
            return [*flat(program(x)), *flat(exported.module()(x))]

    found = on_threads(2, traced)
    assert programs() == before
    same(found, on_threads(2, inference, layer, {"input": x}) * 2)
    assert programs() > before


def test_errors_are_those_of_calls_in_turn() -> None:
    def said(count: int, stack: str, change: Any) -> str:
        layer = made(ALL["gru"], STACKS[stack])
        change(layer)
        with pytest.raises((RuntimeError, AttributeError, TypeError)) as caught:
            on_threads(count, inference, layer, given(layer))
        return f"{caught.type.__name__}: {caught.value}"

    def last(layer: gw.Recurrent) -> str:
        return [name for name, _ in layer.named_parameters() if name.startswith("weight_hh")][-1]

    changes = [
        lambda layer: setattr(layer, last(layer), torch.nn.Parameter(torch.zeros(3, 3))),
        lambda layer: setattr(layer, last(layer), torch.nn.Parameter(getattr(layer, last(layer)).double())),
        lambda layer: getattr(layer, last(layer)).untyped_storage().resize_(0),
        lambda layer: setattr(layer, last(layer), None),
    ]
    for change in changes:
        for stack in STACKS:
            assert said(2, stack, change) == said(1, stack, change)


def test_a_number_of_threads_that_falls_between_forward_and_backward() -> None:
    layer = made(ALL["gru"], STACKS["both ways"])
    x = given(layer)["input"]

    def loss() -> Tensor:
        return layer(x)[0].square().sum()

    late = on_threads(2, loss)
    found = on_threads(1, lambda: list(torch.autograd.grad(late, list(layer.parameters()))))
    same(found, on_threads(1, lambda: list(torch.autograd.grad(loss(), list(layer.parameters())))))


def test_python_threads_at_once() -> None:
    layers = [made(ALL[name], STACKS[stack]) for name in ("gru", "lstm") for stack in ("both ways", "three layers")]
    problems = [(layer, given(layer)) for layer in layers]
    expected = [on_threads(1, training, *p) for p in problems]
    start, wrong = threading.Barrier(len(problems)), list[int]()

    def work(k: int) -> None:
        torch.set_num_threads(2)
        start.wait()
        for _ in range(20):
            found = [*inference(*problems[k]), *training(*problems[k])]
            results = len(found) - len(expected[k])
            if not all(torch.equal(a, b) for a, b in zip(found, [*expected[k][:results], *expected[k]], strict=True)):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(problems))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


PROCESS = """
import multiprocessing, os, sys, torch
import gatewise as gw
from gatewise.backends.kernels import recipe
torch.manual_seed(0)
torch.set_num_threads(1)
x = torch.randn(200, 1, 64)
layers = [gw.GRU(64, 64, bidirectional=True), gw.GRU(64, 64, num_layers=3)]

def run():
    with torch.no_grad():
        return [layer(x)[0] for layer in layers]

expected = run()
torch.set_num_threads(2)

def right():
    return all(torch.equal(a, b) for a, b in zip(run(), expected))

print(right(), sum(k[0][0] in ("together", "stack") for k in recipe._recipes))
"""
FORK = """
context = multiprocessing.get_context("fork")
child = context.Process(target=lambda: sys.exit(0 if right() else 5))
child.start()
child.join(60)
print(child.exitcode, right())
"""


def in_process(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_region_that_gets_one_thread_does_all() -> None:
    assert in_process(PROCESS, OMP_THREAD_LIMIT="1") == "True 2"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_in_turn_and_the_process_ends() -> None:
    assert in_process(PROCESS + FORK).splitlines() == ["True 2", "0 True"]
