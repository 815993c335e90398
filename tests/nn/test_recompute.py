"""Layers that keep the states and compute the gates again: the same results, in less memory."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, problem, results
from torch import Tensor, nn

import gatewise as gw
from gatewise import cells
from gatewise.backends.kernels import recompute

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of √T steps, so that short sequences have several."""
    monkeypatch.setattr(recompute, "AT_ONCE", 0)


def pair(make: Callable[..., gw.Recurrent], **options: Any) -> tuple[gw.Recurrent, gw.Recurrent]:
    """A layer that keeps its gates and one that does not, with the same weights."""
    torch.manual_seed(0)
    plain = make(**options)
    thrifty = make(**options, recompute=True)
    thrifty.load_state_dict(plain.state_dict())
    return plain, thrifty


def compare(plain: gw.Recurrent, thrifty: gw.Recurrent, x: Tensor, states: list[Tensor], **more: Any) -> None:
    """The same bits for all but sums over time, which are taken in other runs."""
    expected, found = results(plain, x, states, **more), results(thrifty, x, states, **more)
    sums = {f"d.{name}" for name, _ in plain.named_parameters()}
    for name, value in expected.items():
        if name in sums:
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        else:
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_same_results(layer: str, stack: str) -> None:
    plain, thrifty = pair(LAYERS[layer], **STACKS[stack])
    compare(plain, thrifty, *problem(plain))


@pytest.mark.parametrize("make", [gw.RNN, lambda *a, **k: gw.GRU(*a, **k, reset_after=True)], ids=["rnn", "after"])
def test_further_layers(make: Callable[..., gw.Recurrent]) -> None:
    plain, thrifty = pair(lambda **k: make(INPUT, HIDDEN, **k))
    compare(plain, thrifty, *problem(plain))


@pytest.mark.parametrize("steps", [0, 1, 2, 17])
def test_any_number_of_steps(steps: int) -> None:
    plain, thrifty = pair(LAYERS["lstm"], bidirectional=True)
    compare(plain, thrifty, *problem(plain, steps=steps))


@pytest.mark.parametrize("layer", LAYERS)
def test_with_lengths_resets_and_learned_starts(layer: str) -> None:
    plain, thrifty = pair(LAYERS[layer], bidirectional=True, learn_initial_state=True)
    x, states = problem(plain)
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[3, 1] = reset[5, 0] = True
    compare(plain, thrifty, x, states, lengths=[6, 4, 0, 3], reset=reset)


def test_with_keyword_inputs() -> None:
    plain, thrifty = pair(lambda **k: gw.Recurrent(cells.augru, INPUT, HIDDEN, **k))
    x, states = problem(plain)
    found = []
    for layer in (plain, thrifty):
        attention = torch.linspace(0, 1, STEPS * BATCH).view(STEPS, BATCH).requires_grad_()
        layer(x, states[0], attention=attention)[0].square().sum().backward()
        found.append(attention.grad)
    assert torch.equal(*found)


def test_runs_whose_input_products_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows: the input products of a run are computed before it."""
    monkeypatch.setattr(recompute, "AT_ONCE", 40_000)
    plain, thrifty = pair(lambda **k: gw.LSTM(INPUT, HIDDEN, **k), bidirectional=True)
    compare(plain, thrifty, *problem(plain, steps=300, batch=1))


def saved_bytes(layer: gw.Recurrent, steps: int = 64) -> int:
    """What autograd holds for the backward, beside parameters."""
    sizes: dict[int, int] = {}
    parameters = {p.data_ptr() for p in layer.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y, _ = layer(torch.ones(steps, 2, layer.input_size, requires_grad=True))
    assert y.requires_grad
    return sum(sizes.values())


def test_what_is_kept_does_not_grow_with_the_gates() -> None:
    @gw.cell
    def many_gates(gate: Any, x: Any, h: Any) -> Any:
        parts = [gw.tanh(getattr(gate, f"n{k}")(x, h)) * gw.sigmoid(getattr(gate, f"o{k}")(x, h)) for k in range(5)]
        return sum(parts[1:], parts[0])

    one = saved_bytes(gw.RNN(8, 8, recompute=True))
    for layer in (gw.GRU(8, 8, recompute=True), gw.Recurrent(many_gates, 8, 8, recompute=True)):
        assert saved_bytes(layer) == one
    state = 64 * 2 * 8 * 4
    # The LSTM's second state: over time, and before the first step.
    assert saved_bytes(gw.LSTM(8, 8, recompute=True)) == one + state + 2 * 8 * 4
    assert saved_bytes(gw.Recurrent(many_gates, 8, 8)) >= one + 10 * state


def test_second_derivatives() -> None:
    torch.manual_seed(0)
    layer = gw.LSTM(INPUT, HIDDEN, dtype=torch.float64, recompute=True)
    x = torch.randn(5, 2, INPUT, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], [x], fast_mode=True)


def test_transforms() -> None:
    plain, thrifty = pair(LAYERS["gru"])
    x = torch.randn(3, 5, INPUT)

    def gradient(layer: gw.Recurrent) -> Any:
        def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
            y: Tensor = torch.func.functional_call(layer, parameters, (row[:, None],))[0]
            return y.square().sum()

        parameters = {name: p.detach() for name, p in layer.named_parameters()}
        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)

    torch.testing.assert_close(gradient(thrifty), gradient(plain), rtol=1e-4, atol=1e-5)


def test_torch_compiles_and_exports_it(backends_left: None) -> None:
    plain, thrifty = pair(LAYERS["lstm"], bidirectional=True)
    compiled = torch.compile(thrifty, fullgraph=True, backend="aot_eager")
    x, _ = problem(plain)
    for steps in (6, 5, 3):  # dynamic after the second
        expected, found = plain(x[:steps])[0], compiled(x[:steps])[0]
        assert torch.equal(found, expected)
        for layer in (plain, thrifty):
            layer.zero_grad()
        expected.sum().backward()
        found.sum().backward()
        for a, b in zip(plain.parameters(), thrifty.parameters(), strict=True):
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)
    exported = torch.export.export(thrifty, (x,)).module()
    assert torch.equal(exported(x)[0], plain(x)[0])


@pytest.fixture
def backends_left() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_copies_and_words() -> None:
    layer = gw.GRU(3, 4, recompute=True)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.recompute
    assert repr(layer) == "GRU(3, 4, recompute=True)"
    assert repr(gw.GRU(3, 4)) == "GRU(3, 4)"
    assert isinstance(nn.Sequential(layer)[0], gw.GRU)
    with gw.backend("eager"):
        assert layer.backend == "eager: asked for by name; recompute acts where kernels run"
        plain = gw.GRU(3, 4)
        plain.load_state_dict(layer.state_dict())
        x = torch.randn(2, 1, 3)
        assert torch.equal(layer(x)[0], plain(x)[0])
    assert layer.backend.startswith("cpu")


def test_refusals() -> None:
    with pytest.raises(TypeError, match="LSTM: recompute must be a bool, got str"):
        gw.LSTM(3, 4, recompute="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LSTM: recompute is not available with proj_size"):
        gw.LSTM(3, 4, proj_size=2, recompute=True)
