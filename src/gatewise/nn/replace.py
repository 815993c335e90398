"""Swap torch.nn's recurrent layers inside a model for Gatewise's, each checked beside the one it replaces."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.nn.drop_in import GRU, LSTM, RNN
from gatewise.nn.recurrent import Recurrent
from gatewise.nn.single_step import GRUCell, LSTMCell, RNNCell, SingleStep

STEPS, ROWS, REPEATS = 32, 8, 5  # an odd number of them has a median
# Shared, not copied, so that a hook's handle goes on removing it.
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)
Ours = Recurrent | SingleStep


@dataclass(frozen=True)
class Replaced:
    """One swapped layer: its name, formula and backend, the largest difference from torch's results on random input
    (None where weights without values allowed no check), and the seconds of a call before and after."""

    name: str
    formula: str
    backend: str
    difference: float | None
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Report:
    """What ``replace`` did: ``print(report)`` shows a table.

    ``model`` is the model with its layers swapped: the same object, or the new layer where the model was one itself.
    ``left`` holds the name of each recurrent layer that stayed, with the reason.
    """

    model: nn.Module
    replaced: tuple[Replaced, ...]
    left: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        head = ("layer", "formula", "runs on", "largest difference", "before", "after")
        rows = [
            (r.name, r.formula, r.backend, _number(r.difference), _duration(r.before), _duration(r.after))
            for r in self.replaced
        ]
        widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
        lines = [
            "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
        ]
        if not rows:
            lines = ["no layer replaced"]
        return "\n".join([*lines, *(f"left {name}: {reason}" for name, reason in self.left)])


def replace(model: nn.Module) -> Report:
    """Swap every ``torch.nn`` GRU, LSTM, RNN, GRUCell, LSTMCell and RNNCell in a model, in place.

    The new layers hold the same ``Parameter`` objects, so that optimizers go on working, and the mode and the forward
    and backward hooks of the old ones. A module used in several places is swapped once, for all of them. Each new layer
    is run beside the old one on random input first, in evaluation mode; nothing is swapped where results differ.

    Args:
        model: any module; a recurrent layer itself too, whose replacement is then ``Report.model``.

    Returns:
        The report. Layers that are not exactly torch's (subclasses, parametrised weights, an own ``forward``) stay,
        and the report says so.

    Raises:
        TypeError: when model is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"replace: model must be a torch.nn.Module, got {type(model).__name__}")
    swaps: dict[nn.Module, Ours] = {}
    replaced: list[Replaced] = []
    left: list[tuple[str, str]] = []
    for name, old in model.named_modules():
        if not isinstance(old, (nn.RNNBase, nn.RNNCellBase)):
            continue
        shown = name or "(model)"
        new = _counterpart(old)
        outcome = new if isinstance(new, str) else _measure(shown, old, new)
        if isinstance(new, str) or isinstance(outcome, str):
            left.append((shown, str(outcome)))
        else:
            swaps[old] = new
            replaced.append(outcome)
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in swaps:
                parent._modules[name] = swaps[child]
    return Report(swaps.get(model, model), tuple(replaced), tuple(left))


def _counterpart(old: nn.Module) -> Ours | str:
    """Gatewise's layer with the parameters of torch's, or why there is none."""
    make = MAKERS.get(type(old))
    if make is None:
        return f"{type(old).__name__} is a subclass of torch's layer, which may compute something else"
    if "forward" in vars(old):
        return "it has a forward of its own"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dropout in a single layer: torch said it when the old one was made
        new = make(old)
    names = (list(old._parameters), list(old._buffers), list(old._modules))
    if names != (list(new._parameters), [], []):
        return "its parameters, buffers or modules are not those that torch gives it"
    new._parameters.update(old._parameters)
    new.training = old.training
    for hooks in HOOKS:
        setattr(new, hooks, getattr(old, hooks))
    return new


def _layer_options(old: Any) -> dict[str, Any]:
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    return {name: getattr(old, name) for name in names} | {"device": "meta"}


def _step_options(old: Any) -> dict[str, Any]:
    return {name: getattr(old, name) for name in ("input_size", "hidden_size", "bias")} | {"device": "meta"}


MAKERS: dict[type[nn.Module], Callable[[Any], Ours]] = {
    nn.GRU: lambda old: GRU(**_layer_options(old), reset_after=True),
    nn.LSTM: lambda old: LSTM(**_layer_options(old), proj_size=old.proj_size),
    nn.RNN: lambda old: RNN(**_layer_options(old), nonlinearity=old.nonlinearity),
    nn.GRUCell: lambda old: GRUCell(**_step_options(old), reset_after=True),
    nn.LSTMCell: lambda old: LSTMCell(**_step_options(old)),
    nn.RNNCell: lambda old: RNNCell(**_step_options(old), nonlinearity=old.nonlinearity),
}


def _measure(name: str, old: nn.Module, new: Ours) -> Replaced | str:
    """Both layers on the same random input, or why the new one cannot stand for the old one."""
    backend = new.backend.partition(":")[0]
    if next(new.parameters()).device.type == "meta":
        return Replaced(name, new.cell.name, backend, None, None, None)
    arguments = _random_arguments(new)
    was_training, old.training, new.training = old.training, False, False
    try:
        # .forward, because the model's hooks are for the model's own calls.
        with torch.no_grad():
            expected, before = _timed(old.forward, arguments)
            actual, after = _timed(new.forward, arguments)
    finally:
        old.training = new.training = was_training
    difference, scale = _difference(expected, actual)
    if not difference <= torch.finfo(expected[0].dtype).eps ** 0.5 * max(1.0, scale):
        return f"the results differ by {difference:.1e} on random input"
    return Replaced(name, new.cell.name, backend, difference, before, after)


def _random_arguments(new: Ours) -> tuple[Any, Any]:
    """Input and initial states in the layer's sizes, dtype and device, without touching the global generator."""
    weight, generator = next(new.parameters()), torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cpu").to(weight)

    if isinstance(new, SingleStep):
        x, states = random(ROWS, new.input_size), [random(ROWS, new.hidden_size) for _ in new.cell.states]
    else:
        lead = (ROWS, STEPS) if new.batch_first else (STEPS, ROWS)
        x = random(*lead, new.input_size)
        states = [random(new.num_layers * new.num_directions, ROWS, size) for size in new.state_sizes]
    return x, states[0] if len(states) == 1 else tuple(states)


def _timed(call: Callable[..., Any], arguments: tuple[Any, Any]) -> tuple[list[Tensor], float]:
    """All results, and the median of the seconds of a few calls after the first."""
    results = _flat(call(*arguments))
    seconds = []
    for _ in range(REPEATS):
        _wait(results[0])
        start = time.perf_counter()
        call(*arguments)
        _wait(results[0])
        seconds.append(time.perf_counter() - start)
    return results, sorted(seconds)[REPEATS // 2]


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def _flat(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [t for part in result for t in _flat(part)]


def _difference(expected: list[Tensor], actual: list[Tensor]) -> tuple[float, float]:
    """The largest difference, and the largest finite expected value. NaN in both places is no difference."""
    largest, scale = 0.0, 0.0
    for a, b in zip(expected, actual, strict=True):
        same = (a == b) | (a.isnan() & b.isnan())
        largest = max(largest, float((a - b).abs().masked_fill(same, 0.0).nan_to_num(torch.inf).max()))
        scale = max(scale, float(a.abs().nan_to_num(0.0, 0.0).max()))
    return largest, scale


def _number(value: float | None) -> str:
    return "not checked" if value is None else f"{value:.1e}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
