"""A stack of recurrent layers as formats hold it, and Gatewise's layers of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from gatewise import cells
from gatewise.errors import InputError, UnsupportedError
from gatewise.formats.blocks import Blocks, read, write
from gatewise.formats.formulas import RELU, Activations, cell_of, recognised, usual
from gatewise.formats.layouts import BIASES, LAYOUTS, Layout
from gatewise.nn import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RNNCell
from gatewise.nn.single_step import SingleStep

GatewiseLayer = Recurrent | SingleStep
DTYPES = {torch.float16: torch.float32, torch.bfloat16: torch.bfloat16, torch.float32: torch.float32}
DTYPES[torch.float64] = torch.float64
"""In which dtype Gatewise keeps weights that came in another."""


@dataclass(frozen=True, repr=False)
class Stack:
    """Layers of one formula, each on what the one below gives.

    Args:
        formula, activations: see ``formulas``. directions: the blocks of every layer's directions, layer by layer.
        bidirectional: there are two for each layer, the second from the last step to the first.
        step: a single step is meant, such as torch's GRUCell. reverse: the one direction runs from the last step to the
            first. batch_first: how the layer is laid out. initial: the states before the first step where they are not
            zero, (number of directions, hidden_size) each.
    """

    formula: str
    activations: Activations
    directions: tuple[Blocks, ...]
    bidirectional: bool = False
    step: bool = False
    reverse: bool = False
    batch_first: bool = True
    initial: tuple[Tensor, ...] | None = None

    @property
    def num_layers(self) -> int:
        return len(self.directions) // (2 if self.bidirectional else 1)

    @property
    def input_size(self) -> int:
        return next(int(b.shape[1]) for (part, _), b in self.directions[0].items() if part == "x")

    @property
    def hidden_size(self) -> int:
        return next(int(b.shape[0]) for (part, _), b in self.directions[0].items() if part == "x")

    @property
    def proj_size(self) -> int:
        projection = self.directions[0].get(("r", ""))
        return 0 if projection is None else int(projection.shape[0])

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The width of each state."""
        count = len(cell_of(self.formula).states)
        return (self.proj_size or self.hidden_size, self.hidden_size)[:count]

    @property
    def bias(self) -> bool:
        return any(part in BIASES for blocks in self.directions for part, _ in blocks)

    @property
    def dtype(self) -> torch.dtype:
        """The one that holds all of the numbers."""
        return reduce(torch.promote_types, (b.dtype for own in self.directions for b in own.values()))

    def usual_activations(self) -> bool:
        return self.activations == usual(self.formula)

    def __str__(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        parts += [f"num_layers={self.num_layers}"] * (self.num_layers > 1)
        parts += ["bidirectional"] * self.bidirectional + ["reverse"] * self.reverse
        parts += [f"proj_size={self.proj_size}"] * bool(self.proj_size)
        parts += ["bias=False"] * (not self.bias) + ["single step"] * self.step
        parts += ["initial state"] * (self.initial is not None)
        used = "" if self.usual_activations() else f" with {', '.join(map(str, self.activations))}"
        return f"{self.formula}({', '.join(parts)}){used}"

    def __repr__(self) -> str:
        """Without the numbers."""
        return f"Stack({self})"


def double(stack: Stack) -> Stack:
    """The same numbers in float64."""
    return in_dtype(stack, torch.float64)


def widened(stack: Stack) -> Stack:
    """The same numbers in float32 where they are in half precision, so that sums of two biases are rounded to that."""
    return stack if stack.dtype in (torch.float32, torch.float64) else in_dtype(stack, torch.float32)


def in_dtype(stack: Stack, dtype: torch.dtype) -> Stack:
    directions = tuple({k: b.to(dtype) for k, b in own.items()} for own in stack.directions)
    initial = None if stack.initial is None else tuple(state.to(dtype) for state in stack.initial)
    return replace(stack, directions=directions, initial=initial)


def parts(stack: Stack) -> list[Stack]:
    """Each layer of a stack by itself."""
    per_layer = 2 if stack.bidirectional else 1
    pieces = [stack.directions[k : k + per_layer] for k in range(0, len(stack.directions), per_layer)]
    return [replace(stack, directions=piece) for piece in pieces]


def checked(stack: Stack, name: str) -> Stack:
    """The stack, when its numbers are finite and its shapes fit together.

    Args:
        stack: as it was read. name: of the layer, for the sentences.

    Raises:
        InputError: otherwise.
    """
    width, units = stack.input_size, stack.hidden_size
    if not width or not units:
        raise InputError(f"layer {name}: input_size and hidden_size must be positive, got {width} and {units}")
    _check_alike(stack, name)
    per_layer = 2 if stack.bidirectional else 1
    for k, blocks in enumerate(stack.directions):
        expected = width if k < per_layer else (stack.proj_size or units) * per_layer
        for (part, gate), block in blocks.items():
            what = f"layer {name}: {_called(part, gate, k, per_layer)}"
            if block.dtype not in DTYPES:
                raise InputError(f"{what} must be floating point, got {str(block.dtype).removeprefix('torch.')}")
            if not block.isfinite().all():
                raise InputError(f"{what} must be finite, got a number that is not")
            if part == "x" and block.shape != (units, expected):
                raise InputError(f"{what} must have shape {(units, expected)}, got {tuple(block.shape)}")
            if part == "r" and block.shape != (stack.proj_size, units):
                raise InputError(f"{what} must have shape {(stack.proj_size, units)}, got {tuple(block.shape)}")
            if part != "x" and part != "r" and block.shape[0] != units:
                raise InputError(f"{what} must have {units} rows, got {block.shape[0]}")
    for state, size in zip(stack.initial or (), stack.state_sizes, strict=False):
        if state.shape != (len(stack.directions), size) or not state.isfinite().all():
            raise InputError(
                f"layer {name}: each initial state must be {size} finite numbers for {len(stack.directions)} directions"
            )
    return stack


def _check_alike(stack: Stack, name: str) -> None:
    """All directions have biases, peepholes and projections, or none has."""
    for own in stack.directions:
        for part, gate in sorted(own.keys() ^ stack.directions[0].keys()):
            what = _called(part, gate, 0, 1).rpartition(" in ")[0]
            raise InputError(f"layer {name}: some of its layers or directions have {what}, and others have not")


def _called(part: str, gate: str, k: int, per_layer: int) -> str:
    names = {"x": "the input's weights", "h": "the state's weights", "p": "the peephole", "r": "the projection"}
    place = f"layer {k // per_layer}" + (" of the way back" if k % per_layer else "")
    return f"{names.get(part, 'the bias')}{f' of gate {gate}' if gate else ''} in {place}"


def express(stack: Stack, formula: str, whose: str) -> Stack:
    """The same layers in another formula, where that is exact.

    Args:
        stack: as it is. formula: that is wanted. whose: layer has that formula, for the sentence.

    Raises:
        InputError: where it is not; the sentence says why.
    """
    if stack.formula == formula:
        return stack
    made, wanted = stack, formula
    if made.formula.startswith("lstm_coupled"):
        made = _uncoupled(made)
    if made.formula == "lstm_peephole" and wanted == "lstm":
        made = _without_peepholes(made, whose)
    if made.formula == "lstm" and wanted == "lstm_peephole":
        made = replace(made, formula=wanted)
    if made.formula == wanted:
        return made
    if {stack.formula, formula} == {"gru", "gru_reset_after"}:
        places = {"gru": "before", "gru_reset_after": "after"}
        raise InputError(
            f"{whose} applies the reset gate {places[formula]} the recurrent product, and these weights were trained "
            f"with it {places[stack.formula]} it: no weights make the two the same"
        )
    raise InputError(f"{whose} computes the formula {formula}, these weights belong to {stack.formula}")


def _uncoupled(stack: Stack) -> Stack:
    """The input gate 1 − f as a gate of its own: i = σ(−a) where f = σ(a)."""
    check_turns(stack.activations[0], "a coupled input gate")
    directions = []
    for blocks in stack.directions:
        own = {(part, "i"): -block for (part, gate), block in blocks.items() if gate == "f"}
        directions.append({**blocks, **own})
    return replace(stack, formula=stack.formula.replace("_coupled", ""), directions=tuple(directions))


def check_turns(activation: Any, what: str) -> None:
    """Refuse an activation of which 1 − f(a) is not f(−a).

    Raises:
        InputError: for such a one.
    """
    symmetric = activation.name == "hard_sigmoid" and (activation.numbers or (0, 0.5))[1] == 0.5
    if activation.name != "sigmoid" and not symmetric:
        raise UnsupportedError(f"{what} is exact where 1 − f(a) = f(−a), which {activation} does not fulfil")


def _without_peepholes(stack: Stack, whose: str) -> Stack:
    for blocks in stack.directions:
        if any(part == "p" and block.count_nonzero() for (part, _), block in blocks.items()):
            raise InputError(f"{whose} has no peepholes, and these weights have some that are not zero")
    directions = tuple({k: b for k, b in blocks.items() if k[0] != "p"} for blocks in stack.directions)
    return replace(stack, formula="lstm", directions=directions)


def from_layer(layer: GatewiseLayer) -> Stack:
    """The stack of a layer of Gatewise's.

    Raises:
        InputError: when no other format has its cell.
    """
    if not isinstance(layer, (Recurrent, SingleStep)):
        raise InputError(f"layer must be a recurrent layer of Gatewise, got {type(layer).__name__}")
    if layer.quantised is not None:
        raise InputError("layer: got one that is quantised, which no other format takes; expected one in float32")
    layout, formula, activations = _own_layout(layer)
    directions = tuple(read(layout, {n: v.detach() for n, v in own.items()}) for own in _parameters(layer))
    layers: dict[str, Any] = {"step": isinstance(layer, SingleStep)}
    if isinstance(layer, Recurrent):
        layers |= {"bidirectional": layer.bidirectional, "batch_first": layer.batch_first}
        if layer.learn_initial_state:
            starts = [getattr(layer, name).detach() for name in layer._initial_names]
            layers["initial"] = tuple(torch.stack(own) for own in zip(*starts, strict=True))
    return Stack(formula, activations, directions, **layers)


def _own_layout(layer: GatewiseLayer) -> tuple[Layout, str, Activations]:
    """How the layer keeps its weights, and what it computes."""
    renews = layer.cell.body() == cells.gru_renew.body()
    found = recognised(cells.gru if renews else layer.cell)
    if found is None:
        raise UnsupportedError(f"the cell {layer.cell.name} belongs to Gatewise alone: no other format has its formula")
    formula, activations = found
    if getattr(layer, "proj_size", 0):
        return LAYOUTS["torch LSTM proj_size"], formula, activations
    kept = getattr(layer, "redundant_bias", isinstance(layer, SingleStep) and layer.bias_hh is not None)
    if kept and not renews and formula in TORCH:
        return LAYOUTS[TORCH[formula]], formula, activations
    return LAYOUTS[f"gatewise {'gru_renew' if renews else formula}"], formula, activations


TORCH = {"gru_reset_after": "torch GRU", "lstm": "torch LSTM", "rnn": "torch RNN"}
"""The layouts with torch's names and both biases."""


def _parameters(layer: GatewiseLayer) -> Iterator[Mapping[str, Tensor]]:
    """Those of every direction, by the names of its layout."""
    if isinstance(layer, SingleStep):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        yield {name: getattr(layer, name) for name in names if getattr(layer, name) is not None}
        return
    for names_here in layer._parameter_names:
        yield {name: getattr(layer, full) for name, full in names_here.items()}


def to_layer(stack: Stack) -> GatewiseLayer:
    """A layer of Gatewise's with the weights of a stack, in evaluation mode; the reverse direction alone is the
    caller's."""
    stack = in_dtype(stack, DTYPES[stack.dtype])
    layer = _empty(stack)
    layout, *_ = _own_layout(layer)
    with torch.no_grad():
        for blocks, own in zip(stack.directions, _parameters(layer), strict=True):
            arrays = write(layout, blocks)
            for name, parameter in own.items():
                value = arrays.get(name)
                parameter.zero_() if value is None else parameter.copy_(value)
        if stack.initial is not None and isinstance(layer, Recurrent):
            for k, name in enumerate(layer._initial_names):
                getattr(layer, name).copy_(torch.stack([state[k] for state in stack.initial]))
    return layer.eval()


def _empty(stack: Stack) -> GatewiseLayer:
    sizes: dict[str, Any] = {"input_size": stack.input_size, "hidden_size": stack.hidden_size, "bias": stack.bias}
    sizes["dtype"] = stack.dtype
    plain = stack.activations == (RELU,) and stack.formula == "rnn"
    drop_in = stack.usual_activations() or plain
    kind: dict[str, Any] = {}
    if stack.formula.startswith("gru") and drop_in:
        kind["reset_after"] = stack.formula == "gru_reset_after"
    if stack.formula == "rnn" and drop_in:
        kind["nonlinearity"] = "relu" if plain else "tanh"
    family = stack.formula.partition("_")[0]
    if stack.step:
        cell: SingleStep = {"gru": GRUCell, "lstm": LSTMCell, "rnn": RNNCell}[family](**sizes, **kind)
        return cell
    sizes |= {"num_layers": stack.num_layers, "bidirectional": stack.bidirectional, "batch_first": stack.batch_first}
    sizes["learn_initial_state"] = stack.initial is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if drop_in and stack.formula in ("gru", "gru_reset_after"):
            return GRU(**sizes, **kind)
        if drop_in and stack.formula == "lstm":
            return LSTM(**sizes, proj_size=stack.proj_size)
        if drop_in and stack.formula == "rnn":
            return RNN(**sizes, **kind)
        return Recurrent(cell_of(stack.formula, stack.activations), **sizes)
