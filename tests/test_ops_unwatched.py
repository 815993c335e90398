"""Where nobody looks on, calls leave out torch's dispatcher, and gradients that nobody asked for: the same bits and
errors."""

from typing import Any

import pytest
import torch
from comparing import Case, evaluate, problem, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cells import ALL
from torch.utils._python_dispatch import TorchDispatchMode

import gatewise as gw

CELLS = [ALL[name] for name in ("gru", "lstm", "driven", "gru_d", "vectors")]


class Watching(TorchDispatchMode):
    """Sees every operator, and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    data=st.data(),
    cell=st.sampled_from(CELLS),
    steps=st.integers(0, 3),
    batch=st.integers(0, 2),
    reverse=st.booleans(),
    layout=st.sampled_from(["contiguous", "transposed", "sliced", "expanded"]),
    cotangents=st.sampled_from(["all", "output", "final", "last"]),
)
def test_watched_or_not_the_bits_are_the_same(data: Any, cell: gw.Cell, steps: int, batch: int, **further: Any) -> None:
    sizes: dict[str, Any] = {"dtype": torch.float64, "hidden": 3, "inputs": 2}  # as in test_ops, whose kernels serve
    sizes |= {"steps": steps, "batch": batch, **further}
    names = list(problem(Case(cell, **sizes)).tensors)
    wanted = tuple(n for n in names if data.draw(st.booleans(), n)) or (names[-1],)
    p = problem(Case(cell, wanted=wanted, **sizes))
    with Watching() as watching:
        watched = evaluate(p, "cpu")
    assert {"gatewise.forward.default", "gatewise.backward.default"} <= watching.seen
    same_bits(evaluate(p, "cpu"), watched)
    inference = evaluate(p, "cpu", grad=False)
    same_bits(inference, {name: watched[name] for name in inference})
    with Watching() as watching:
        same_bits(evaluate(p, "cpu", grad=False), inference)
    assert "gatewise.forward.default" in watching.seen


@pytest.mark.parametrize("name", ["x", "weight_hh_l0"])
def test_watched_or_not_memory_that_went_is_refused(name: str) -> None:
    """Before the forward, and between the forward and the backward."""
    said = set()
    for watching in (Watching(), torch.enable_grad()):
        with watching:
            layer, x = gw.GRU(2, 3), torch.ones(4, 1, 2)
            y, _ = layer(x)
            ({"x": x} | dict(layer.named_parameters()))[name].untyped_storage().resize_(0)
            for call in (lambda y=y: y.sum().backward(), lambda layer=layer, x=x: layer(x)):
                with pytest.raises(RuntimeError, match="must have memory for shape") as caught:
                    call()
                said.add(str(caught.value))
    assert len(said) == 1, said
