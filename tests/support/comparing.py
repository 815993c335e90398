"""The kernels of the cpu backend against the eager reference in float64: one function that every test compares with.

The bound is contract 1: the error of a float32 kernel is at most twice that of eager in float32, plus a floor for
values that eager got right by luck. Errors are taken per tensor in the maximum norm. Where that is not enough, the
problem itself may be at fault: ``sensitivity`` says how far a rounding of what is given moves the exact result.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import gatewise as gw
from gatewise import ops
from gatewise.backends import cpu, eager
from gatewise.backends.cpu import launch, tiers
from gatewise.backends.kernels import recipe
from gatewise.compiler.cell import Cell
from gatewise.compiler.expression import Node, postorder
from gatewise.compiler.plan import Plan, input_operands, make_plans


def floor(cell: Cell, inputs: int, hidden: int) -> float:
    """The floor in units of eps · max|reference|.

    A pre-activation is one chain of multiply-adds, as long as its weights have columns: its rounding errors add up like
    a random walk, √columns. The reference's library adds in blocks and does better on long sums. Four more are for the
    handful of roundings of the point-wise part, where a function may be wrong by 2 ulp.
    """
    shapes = cell.parameter_shapes(inputs, hidden).values()
    return 4.0 + math.sqrt(sum(shape[1] for shape in shapes if len(shape) == 2))


PARAMETERS = ("weight", "bias", "vector")
IN_BFLOAT16 = [t for name in tiers.available() for t in tiers.in_bfloat16(name)]
"""The tiers of this host whose products are in bfloat16: calls reach the first of them by what they round to."""


@dataclass(frozen=True)
class Case:
    """One application of a cell; the defaults are the base case, from which tests vary one thing at a time."""

    cell: Cell
    dtype: torch.dtype = torch.float32
    tier: str | None = None
    hidden: int = 65
    batch: int = 3
    steps: int = 5
    inputs: int = 5
    reverse: bool = False
    bias: bool = True
    redundant: bool = False
    layout: str = "contiguous"
    """``contiguous``, ``transposed`` (last dimension outermost in memory), ``sliced`` (of wider memory, which is NaN),
    ``expanded`` (one row for the whole batch)."""
    cotangents: str = "all"
    """Which results get a gradient: ``all``, ``output``, ``final``, or ``last`` (the last state only)."""
    wanted: tuple[str, ...] = ()
    """Names of the tensors that require a gradient; empty: all."""
    seed: int = 0

    def __str__(self) -> str:
        changed = [
            f"{k}={v}"
            for k, v in self.__dict__.items()
            if k != "cell" and v != type(self).__dataclass_fields__[k].default
        ]
        return " ".join([self.cell.name, *changed])


@dataclass
class Problem:
    """Tensors by name: ``x``, ``in.*``, ``state.*`` and the parameters; and gradients of results by name."""

    case: Case
    tensors: dict[str, Tensor]
    cotangents: dict[str, Tensor]

    def of(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def parameters(self) -> dict[str, Tensor]:
        return {k: v for k, v in self.tensors.items() if k.startswith(PARAMETERS)}

    def to(self, dtype: torch.dtype) -> Problem:
        """The same numbers in another dtype and contiguous."""
        tensors = {k: v.detach().to(dtype, copy=True).contiguous() for k, v in self.tensors.items()}
        return Problem(self.case, tensors, {k: v.to(dtype, copy=True).contiguous() for k, v in self.cotangents.items()})


def problem(case: Case) -> Problem:
    """Random numbers without symmetry: every gate, row and column differs in mean and scale."""
    generator = torch.Generator().manual_seed(case.seed + 1)
    cell, h = case.cell, case.hidden

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64) + 0.2
        if shape and shape[-1] > 1:
            numbers = numbers * torch.linspace(0.6, 1.4, shape[-1], dtype=torch.float64)
        return (scale * numbers).to(case.dtype)

    widths = {"input": case.inputs, "hidden": h}
    tensors = {"x": random(case.steps, case.batch, case.inputs)}
    for name, width in cell.inputs:
        tensors[f"in.{name}"] = random(case.steps, case.batch, widths.get(str(width), width))
    for name in cell.states:
        tensors[f"state.{name}"] = random(case.batch, h)
    shapes = cell.parameter_shapes(case.inputs, h)
    if case.redundant:
        shapes["bias_hh"] = (len(cell.rows("weight_hh")) * h,)
    for name, shape in shapes.items():
        if case.bias or not name.startswith("bias"):
            tensors[name] = random(*shape, scale=1.0 / math.sqrt(shape[-1]) if len(shape) == 2 else 0.5)
            if name == "weight_diagonal":
                tensors[name] = random(*shape, scale=0.5)
    given = {
        "none": [],
        "all": ["y", *cell.states],
        "output": ["y"],
        "final": list(cell.states),
        "last": [cell.states[-1]],
    }[case.cotangents]
    shape = {name: (case.steps, case.batch, h) if name == "y" else (case.batch, h) for name in given}
    cotangents = {name: random(*shape[name]) for name in given}
    arrange = LAYOUTS[case.layout]
    tensors = {
        k: v if k.startswith(PARAMETERS) and case.layout == "expanded" else arrange(v) for k, v in tensors.items()
    }
    return Problem(case, tensors, {k: arrange(v) for k, v in cotangents.items()})


Prepared = tuple[dict[str, Tensor], dict[Node, Tensor], dict[str, Tensor]]


def prepared(p: Problem) -> Prepared:
    """What wants a gradient; the operands of the affine maps; inputs and vectors that are used element by element."""
    cell = p.case.cell
    leaves = {name: value.detach().requires_grad_() for name, value in p.tensors.items()}
    own = Problem(p.case, leaves, {})
    over_time = {"x": leaves["x"], **own.of("in.")} | eager.vectors_over_time(cell, own.parameters(), leaves["x"])
    nodes = [node for _, node in input_operands(cell)]
    values = {n: over_time[str(n.attr)] for n in postorder(nodes) if n.op in ("input", "vector")}
    operands = dict(zip(nodes, eager.evaluate(nodes, values), strict=True))
    return leaves, operands, {name: over_time[name] for name in make_plans(cell).input_terms}


def through_prologue(
    p: Problem, given: Prepared, operands: Sequence[Tensor], inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The gradients of what ``prepared`` computes with, ``d.x`` and so on, from those of operands and inputs."""
    leaves, values, terms = given
    arriving = [*zip(values.values(), operands, strict=True), *((terms[n], v) for n, v in inputs.items())]
    arriving = [(value, gradient) for value, gradient in arriving if value.requires_grad]
    through = [n for n in leaves if not n.startswith(("state.", "weight", "bias"))]
    found = {f"d.{name}": torch.zeros_like(leaves[name]) for name in through}
    if arriving:
        roots, gradients = zip(*arriving, strict=True)
        whole = torch.autograd.grad(roots, [leaves[n] for n in through], gradients, allow_unused=True)
        found |= {f"d.{n}": g for n, g in zip(through, whole, strict=True) if g is not None}
    return found


def _transposed(t: Tensor) -> Tensor:
    return t.movedim(-1, 0).contiguous().movedim(0, -1)


def _sliced(t: Tensor) -> Tensor:
    wide = torch.full([2 * n + 3 for n in t.shape], math.nan, dtype=t.dtype)
    inner = wide[tuple(slice(2, 2 + 2 * n, 2) for n in t.shape[:-1])][..., 1 : 1 + t.shape[-1]]
    inner.copy_(t)
    return inner


def _expanded(t: Tensor) -> Tensor:
    return t[..., :1, :].expand_as(t) if t.dim() > 1 and t.shape[-2] > 0 else t


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t,
    "transposed": _transposed,
    "sliced": _sliced,
    "expanded": _expanded,
}


@dataclass(frozen=True)
class Fault:
    """A mistake that a test plants into what the kernels compute."""

    tensors: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    plan: Callable[[Plan], Plan] | None = None


@contextlib.contextmanager
def planted(fault: Fault) -> Iterator[list[int]]:
    """Run every plan changed; counts those that the change applies to."""
    real, known, changed = launch.prepare, recipe._recipes, [0]

    def prepare(key: str, plan: Plan, *args: Any, **kwargs: Any) -> launch.Prepared:
        assert fault.plan is not None
        other = fault.plan(plan)
        changed[0] += other != plan
        return real(f"{key} fault {other}", other, *args, **kwargs)

    if fault.plan is not None:
        launch.prepare, recipe._recipes = prepare, {}
    try:
        yield changed
    finally:
        launch.prepare, recipe._recipes = real, known


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def taking(tier: str | None) -> Iterator[None]:
    """Calls in bfloat16 take one of the tiers for them; others go their way."""
    real = cpu._default_tier
    if tier in IN_BFLOAT16:
        cpu._default_tier = lambda half_products=False: tier if half_products else real()
    try:
        yield
    finally:
        cpu._default_tier = real


def evaluate(p: Problem, backend: str, *, grad: bool = True) -> dict[str, Tensor]:
    """Results and gradients by name: ``y``, ``final.*`` and ``d.*``."""
    leaves = {k: v.detach() for k, v in p.tensors.items()}  # strides stay
    wanted = p.case.wanted or tuple(leaves)
    for name in wanted if grad else ():
        leaves[name].requires_grad_()
    leaf = Problem(p.case, leaves, p.cotangents)
    states = list(leaf.of("state.").values())
    half = torch.bfloat16 if p.case.tier in IN_BFLOAT16 else None
    with gw.backend(backend, tier=p.case.tier if backend == "cpu" and half is None else None), taking(p.case.tier):
        how: dict[str, Any] = {"reverse": p.case.reverse, "half": half}
        y, finals = ops.run(p.case.cell, leaves["x"], leaf.of("in."), states, leaf.parameters(), **how)
    results = {"y": y, **{f"final.{s}": f for s, f in zip(p.case.cell.states, finals, strict=True)}}
    found = {k: v.detach() for k, v in results.items()}
    if not grad:
        return found
    given = [(results["y" if k == "y" else f"final.{k}"], v) for k, v in p.cotangents.items()]
    given = [(result, v) for result, v in given if result.requires_grad]
    if given:
        outputs, cotangents = zip(*given, strict=True)
        grads = torch.autograd.grad(outputs, [leaves[k] for k in wanted], cotangents, allow_unused=True)
        found |= {f"d.{k}": torch.zeros_like(leaves[k]) if g is None else g for k, g in zip(wanted, grads, strict=True)}
    return found


def compare(case: Case, fault: Fault | None = None) -> None:
    """Assert contract 1 for every result and gradient of a case."""
    p = problem(case)
    with rounded_products() if case.tier in IN_BFLOAT16 else contextlib.nullcontext():
        exact, reference = evaluate(p.to(torch.float64), "eager"), evaluate(p.to(case.dtype), "eager")
    if fault is None:
        found = evaluate(p, "cpu")
    else:
        tensors = fault.tensors({k: v.clone() for k, v in p.tensors.items()}) if fault.tensors else p.tensors
        with planted(fault) as changed:
            found = evaluate(Problem(case, tensors, p.cotangents), "cpu")
        assert fault.plan is None or changed[0] > 0, "the fault applies to no plan"
    assert found.keys() == exact.keys()
    unit = torch.finfo(case.dtype).eps * floor(case.cell, case.inputs, case.hidden)
    for name, truth in exact.items():
        value, other = found[name], reference[name]
        assert value.dtype == case.dtype
        assert value.shape == truth.shape, f"{case}: {name} has shape {tuple(value.shape)}"
        if truth.numel() == 0:
            continue
        if case.tier in IN_BFLOAT16:
            _compare_rounded(p, exact, name, value.double())
            continue
        error, theirs = ((v.double() - truth).abs().max().item() for v in (value, other))
        largest = truth.abs().max().item()
        # In float64 the reference has errors of its own and nothing better is at hand: 8 units, about 2e-14.
        bound = 8 * unit * largest if case.dtype == torch.float64 else 2 * theirs + unit * largest
        if error > bound:
            bound += (8 if case.dtype == torch.float64 else 2) * sensitivity(p, exact)[name]
        if not error <= bound:  # NaN is not
            raise Disagreement(f"{case}: {name} is wrong by {error:.3g}, eager by {theirs:.3g}, allowed {bound:.3g}")


def _compare_rounded(p: Problem, exact: Mapping[str, Tensor], name: str, value: Tensor) -> None:
    """Operands were rounded to bfloat16 on either side. One that lies between two of its numbers may go to either, by
    errors of float32; such a one is wrong by 2^-8, and few are. Gradients of biases are sums of what was rounded for
    the products beside them, which the reference does not round."""
    truth = exact[name]
    error, largest = value - truth, truth.abs().max().item()
    bound = 2**-8 if name.startswith("d.bias") else 2**-11
    if error.abs().max().item() <= 2**-7 * largest and error.norm().item() <= bound * truth.norm().item():
        return
    if error.abs().max().item() < torch.finfo(torch.float32).tiny:
        return  # what float32 has no numbers for, after hundreds of steps of a state that fades
    with rounded_products():  # numbers moved by a part of bfloat16's unit, so that some of them round otherwise
        allowed = 4 * sensitivity(p, exact, 2**-8 if name.startswith("d.bias") else 2**-12)[name]
    if not error.abs().max().item() <= allowed:  # NaN is not
        raise Disagreement(f"{p.case}: {name} is wrong by {error.abs().max().item():.3g}, allowed {allowed:.3g}")


class _RoundedProduct(torch.autograd.Function):
    """``linear`` whose operands are rounded to bfloat16, in the backward too; sums in the dtype of the arguments."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _half(x) @ _half(weight).T

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        slope, rows = _half(slope), slope.shape[-1]
        return slope @ _half(weight), slope.reshape(-1, rows).T @ _half(x).reshape(-1, x.shape[-1])


def _half(t: Tensor) -> Tensor:
    return t.bfloat16().to(t.dtype)


@contextlib.contextmanager
def rounded_products() -> Iterator[None]:
    """The reference multiplies as the tiers with products in bfloat16 do."""
    real = eager.linear

    def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found: Tensor = _RoundedProduct.apply(x, weight)
        return found if bias is None else found + bias

    eager.linear = product
    try:
        yield
    finally:
        eager.linear = real


def sensitivity(p: Problem, exact: Mapping[str, Tensor], unit: float | None = None) -> dict[str, float]:
    """How far exact results move when every number given is rounded once more, up or down; or moved by a unit.

    Sums that cancel and long recurrences amplify roundings without any method being at fault; the first shows in
    results of one number only, which the floor measures by itself.
    """
    moved = dict.fromkeys(exact, 0.0)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        q = p.to(torch.float64)
        for tensor in (*q.tensors.values(), *q.cotangents.values()):
            signs = torch.randint(0, 2, tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
            tensor.mul_(1 + (torch.finfo(p.case.dtype).eps if unit is None else unit) / 2 * signs)
        for name, value in evaluate(q, "eager").items():
            if value.numel():
                moved[name] = max(moved[name], (value - exact[name]).abs().max().item())
    return moved


class Disagreement(AssertionError):
    """A kernel's numbers are not those of the reference."""


def same_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Assert that the tensors have the same names, shapes and bits."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].shape == b[name].shape, name
        assert a[name].dtype == b[name].dtype, name
        kind = torch.int32 if a[name].dtype == torch.float32 else torch.int64
        differ = (a[name].contiguous().view(kind) != b[name].contiguous().view(kind)).sum().item()
        assert differ == 0, f"{name}: {differ} of {a[name].numel()} numbers differ"
