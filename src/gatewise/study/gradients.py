"""How far gradients reach: ‖∂h_T/∂s_t‖ over distance, and how much each input position matters to an output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.compiler import Cell
from gatewise.nn import Recurrent
from gatewise.study.observe import Reading, leaf, reading
from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError
from gatewise.tasks.weights import refuse_quantised

MOST_DIRECTIONS = 64
LARGEST = 20_000
"""Steps beyond which a flow is refused: every step's state is kept."""


class BothWaysError(InputError):
    """A layer that also reads backwards has no distance over which gradients reach."""


@dataclass(frozen=True)
class Flow:
    """How large ∂h_T/∂s_t is, at distances T − t from 0 on.

    The size is ‖J‖_F / √H, the root mean square over the units of h_T: 1 where h_T = h_t. ``s_t`` are all states, so of
    an LSTM h and c. ``mean`` is the geometric mean over the sequences and seeds, ``low`` and ``high`` their extremes.
    """

    label: str
    mean: list[float]
    low: list[float]
    high: list[float]

    @property
    def factor(self) -> float:
        """What a step multiplies the gradient by: the slope of the logarithm by least squares, as a factor."""
        known = [(k, math.log(v)) for k, v in enumerate(self.mean) if v > 0 and math.isfinite(v)]
        if len(known) < 2:
            return 0.0
        distance, logarithm = np.array(known).T
        return float(np.exp(np.polyfit(distance, logarithm, 1)[0]))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "factor_per_step": self.factor}


def norms(layer: Recurrent, x: Tensor, states: tuple[Tensor, ...] | None = None) -> NDArray[np.float64]:
    """‖∂h_T/∂s_t‖_F / √H at distances 0 to T, (T + 1, B), in float64 arithmetic of the norms.

    Args:
        layer: reads forwards only. x: (T, B, input_size). states: before the first step, (layers, B, H) each.

    The whole Jacobian of up to 64 units is taken; of more, 64 orthonormal directions drawn at random.

    Raises:
        BothWaysError: for a layer that also reads backwards. InputError: for more steps than can be kept.
    """
    if layer.bidirectional:
        raise BothWaysError("gradients over distance need a layer that reads forwards only; this one is bidirectional")
    if len(x) > LARGEST:
        raise InputError(f"steps must be at most {LARGEST}, got {len(x)}")
    units, rows = layer.state_sizes[0], x.shape[1]
    directions = _directions(units, x.dtype)
    count = len(directions)
    with torch.enable_grad():
        hx = _start(layer, states, rows, count, x)
        kept = [hx]
        for step in x:
            wide = step.repeat_interleave(count, 0)
            _, after = layer(wide[:, None] if layer.batch_first else wide[None], hx[0] if len(hx) == 1 else hx)
            hx = after if isinstance(after, tuple) else (after,)
            kept.append(hx)
        target = (hx[0][-1] * directions.repeat(rows, 1)).sum()
        flat = [s for step_states in kept for s in step_states]
        gradients = torch.autograd.grad(target, flat, allow_unused=True)
    squares = np.zeros((len(kept), rows))
    for index, gradient in enumerate(gradients):
        if gradient is not None:
            each = gradient.double().square().sum((0, 2)).reshape(rows, count).sum(1)
            squares[index // len(kept[0])] += each.numpy()
    return np.asarray(np.sqrt(squares[::-1] / count))


def _start(
    layer: Recurrent, states: tuple[Tensor, ...] | None, rows: int, count: int, like: Tensor
) -> tuple[Tensor, ...]:
    if states is None:
        states = tuple(like.new_zeros(layer.num_layers, rows, size) for size in layer.state_sizes)
    return tuple(s.detach().repeat_interleave(count, 1).requires_grad_() for s in states)


def _directions(units: int, dtype: torch.dtype) -> Tensor:
    """Orthonormal rows: every unit, or some directions at random whose mean square stands for all."""
    if units <= MOST_DIRECTIONS:
        return torch.eye(units, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(units, MOST_DIRECTIONS, generator=generator, dtype=torch.float64)
    q: Tensor = torch.linalg.qr(drawn)[0]
    return q.T.contiguous().to(dtype)


def summarised(label: str, values: NDArray[np.float64]) -> Flow:
    """A flow from norms (distances, sequences)."""
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(values).mean(1))
    return Flow(label, mean.tolist(), values.min(1).tolist(), values.max(1).tolist())


def of_cell(
    cell: Cell,
    *,
    input_size: int = 8,
    hidden_size: int = 32,
    steps: int = 100,
    initialise: Sequence[str] = ("torch", "orthogonal", "chrono"),
    seeds: int = 5,
) -> list[Flow]:
    """Gradient flow of an untrained layer on standard normal inputs, for several initialisations.

    An initialisation that the cell has no use for (``chrono`` without a keeping gate) is left out.

    Raises:
        InputError: for a size, number of steps or of seeds below 1.
    """
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("steps", steps), ("seeds", seeds)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    if steps > LARGEST:
        raise InputError(f"steps must be at most {LARGEST}, got {steps}")
    if cell.inputs:
        raise InputError(f"cell must take nothing beside x, but {cell.name} takes {cell.inputs[0][0]}")
    flows = []
    for how in initialise:
        per_seed = []
        for seed in range(seeds):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                layer = _layer(cell, input_size, hidden_size, how)
                if layer is not None:
                    per_seed.append(norms(layer, torch.randn(steps, 1, input_size, dtype=torch.float64))[:, 0])
        if per_seed:
            flows.append(summarised(how, np.stack(per_seed, 1)))
    if not flows:
        raise InputError(f"initialise: cell {cell.name} can start as none of {', '.join(initialise)}")
    return flows


def _layer(cell: Cell, input_size: int, hidden_size: int, how: str) -> Recurrent | None:
    try:
        return Recurrent(cell, input_size, hidden_size, dtype=torch.float64, initialise=how)
    except ValueError as error:
        if "needs a gate that keeps" in str(error):
            return None
        raise InputError(str(error)) from None


def of_model(task: Task, data: Any = None, row: int = 0) -> tuple[Flow, Reading]:
    """Gradient flow of a trained model's first recurrent layer on what it reads."""
    refuse_quantised(task.fitted(), "gradients")
    read = reading(task, data, row)
    states = None if read.states is None else tuple(s[:, None] for s in read.states)
    return summarised("trained", norms(read.layer, read.x[:, None], states)), read


@dataclass(frozen=True)
class Saliency:
    """How much each position of the input matters to an output: ‖∂y/∂x_t‖ with a label for every step."""

    output: str
    labels: list[str]
    values: list[float]


def saliency(task: Task, data: Any = None, output: int | None = None, row: int = 0) -> Saliency:
    """The gradient of one output of a model with respect to what its first recurrent layer reads, step by step.

    Args:
        task: a fitted or loaded model. data: as for its ``predict``. row: which sequence. output: place of the output
            in the last step of the network's result, or of the layer's where the model calls parts of its network; the
            largest one when None.

    Raises:
        InputError: for an output that the network does not have.
    """
    module = task.fitted()
    refuse_quantised(module, "gradients")
    read = reading(task, data, row)
    with leaf(read.layer) as leaves, torch.enable_grad():
        result = _alone(read) if read.whole is None else module(*read.whole[0], **read.whole[1])
        result = result[0] if isinstance(result, tuple) else result
        last = result[-1] if read.whole is None else _last(result, read, row)
        if output is not None and not 0 <= output < len(last):
            raise InputError(f"output must be from 0 to {len(last) - 1}, got {output}")
        chosen = int(last.argmax()) if output is None else output
        (gradient,) = torch.autograd.grad(last[chosen], leaves[:1])
    if gradient.dim() == 3:
        gradient = gradient[row] if read.layer.batch_first else gradient[:, row]
    values = gradient[: len(read.x)].double().norm(dim=-1)
    what = "unit" if read.whole is None else "output"
    return Saliency(f"{what} {chosen} of the last step", read.labels, values.tolist())


def _alone(read: Reading) -> Any:
    """The layer's own output, where the model never calls its network as a whole."""
    states = None if read.states is None else read.states if len(read.states) > 1 else read.states[0]
    return read.layer(read.x, states, **read.inputs)


def _last(result: Tensor, read: Reading, row: int) -> Tensor:
    """The last step of a row of the network's result."""
    if result.dim() == 2:
        return result[row]
    return result[row, -1] if read.layer.batch_first else result[-1, row]
