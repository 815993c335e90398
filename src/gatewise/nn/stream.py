"""A layer one step at a time, with its state inside: for frames that arrive one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from gatewise import ops
from gatewise.backends import EAGER, backend, choose, get
from gatewise.backends.autocast import autocast_dtype
from gatewise.backends.base import Choice, Engine
from gatewise.compiler.cell import Cell
from gatewise.nn.base import rounding, said
from gatewise.nn.layer import Layer

Parameters = Sequence[Mapping[str, Tensor]]


class Stream:
    """The steps of a recurrent layer, one call each: its whole stack in one native call, with weights packed once.

    Made by ``layer.stream(batch_size)``. On the cpu backend a step gives the same bits as the layer's call on the whole
    sequence; in bfloat16 it computes in float32, whatever a call does. Streams are inference: nothing is recorded for
    gradients, and dropout between layers does not act, in whatever mode the layer is. The backend is the one chosen
    when the stream is made; made under torch.autocast, the stream is in autocast's dtype. A stream is for one thread
    at a time.

    Args:
        layer: a ``Recurrent`` of one direction. batch_size: rows of every x; they are independent sequences.
        threads: of a step on the cpu backend, at most; None for ``torch.get_num_threads()`` at each step. A small step
            is over before a second thread has begun.

    Raises:
        TypeError, ValueError: for a layer that cannot be streamed, or a batch size or threads that are no positive int.
    """

    def __init__(self, layer: Layer, batch_size: int = 1, *, threads: int | None = None) -> None:
        weight = layer._a_weight(torch.empty(0))
        _check_layer(layer, weight)
        _check_count("batch_size", batch_size)
        if threads is not None:
            _check_count("threads", threads)
        self.layer, self.batch_size, self.threads = layer, batch_size, threads
        self._device, self._own_dtype, self._half = weight.device, weight.dtype, rounding(weight)
        self._dtype = self._half or weight.dtype
        self._kind = torch.float32 if self._half else weight.dtype  # what steps compute in, and states are
        self._products = torch.int8 if layer.quantised == torch.int8 else None
        self._choice = choose(weight.device, self._kind, self._products)
        # Memory made in inference mode could not be written outside of it.
        with torch.inference_mode(False), torch.no_grad(), self._precision():
            self._engine, self._reason = self._make()
            if self._half:
                self._engine = _Widened(self._engine)
            if self._half or layer.quantised:
                self._reason += said(layer.quantised or self._half, layer.quantised or self._own_dtype, self._choice)
            self._start = _start(layer, self._engine.states)
            self._engine.states.copy_(self._start)
            y = torch.empty(batch_size, layer.hidden_size, device=self._device, dtype=self._dtype)
        columns = {"input": layer.input_size, "hidden": layer.hidden_size}
        self._widths = {name: columns.get(str(width)) or int(width) for name, width in layer.cell.inputs}
        self._results = {torch.Size((batch_size, layer.input_size)): y}
        if batch_size == 1:
            self._results[torch.Size((layer.input_size,))] = y[0]

    def _make(self) -> tuple[Engine, str]:
        choice, layer = self._choice, self.layer
        if choice.name != EAGER:
            sizes = (layer.input_size, self.batch_size, layer.hidden_size)
            halves = (layer.quantised or self._half) == torch.bfloat16
            make = get(choice.name).steps
            steps = make(layer.cell, choice.tier, self._kind, sizes, _parameters(layer), halves, self.threads)
            return steps, choice.reason + steps.remark
        rows, units = self.batch_size, layer.hidden_size
        return _Sequences(layer.cell, choice, rows, units, _parameters(layer), self._products), choice.reason

    def _precision(self) -> torch.autocast:
        """As it was when the stream was made."""
        return torch.autocast(self._device.type, self._half, self._half is not None)

    @property
    def backend(self) -> str:
        """What runs the steps, and why, e.g. ``cpu/avx512: compiled for this machine``."""
        return f"{self._choice}: {self._reason}"

    def step(self, x: Tensor, out: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Take one step.

        Args:
            x: (batch_size, input_size), or (input_size,) when batch_size is 1.
            out: where the result goes, of its shape; without it memory is made, which takes longer than a small step.
            inputs: the keyword inputs of the cell, for every layer; laid out as x, each with its own width, and for a
                width of 1 also without the last dimension.

        Returns:
            The output of the last layer, (batch_size, hidden_size), or (hidden_size,) for x without a batch.

        Raises:
            TypeError, ValueError, RuntimeError: for what is no tensor, or has a wrong shape, dtype or device; the state
                is then as before.
        """
        result = self._results.get(x.shape) if type(x) is Tensor else None
        if result is None or x.dtype is not self._dtype or not (x.is_cpu and x.is_contiguous()) or x.is_neg():
            x = self._checked(x)
            result = self._results[x.shape]
        given = self._given(x, inputs) if inputs or self._widths else ()
        if out is None:
            out = torch.empty_like(result)
        elif (
            type(out) is not Tensor
            or out.dtype is not self._dtype
            or out.shape != result.shape
            or not (out.is_cpu and out.is_contiguous())
            or out.requires_grad
        ):
            return self._into(x, out, result, given)
        self._engine.step(x, out, given)
        return out

    def _checked(self, x: object) -> Tensor:
        """What is right but not as kernels take it, made so; a sentence for what is wrong."""
        shapes = " or ".join(str(tuple(shape)) for shape in self._results)
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor of shape {shapes}, got {type(x).__name__}")
        if x.shape not in self._results:
            raise ValueError(
                f"x must have shape {shapes}, (batch_size, input_size) of this stream, got {tuple(x.shape)}"
            )
        return self._taken("x", x)

    def _taken(self, what: str, tensor: Tensor) -> Tensor:
        """As kernels take it; under torch.autocast it may come in another precision."""
        if tensor.dtype != self._dtype and tensor.is_floating_point() and autocast_dtype(tensor.device) is not None:
            tensor = tensor.to(self._dtype)
        self._check_kind(what, tensor)
        return tensor.detach().resolve_neg().contiguous()

    def _check_kind(self, what: str, tensor: Tensor) -> None:
        if tensor.dtype != self._dtype:
            raise ValueError(f"{what} must have the dtype of the stream, {self._dtype}, got {tensor.dtype}")
        if tensor.device != self._device:
            raise RuntimeError(f"{what} must be on the device of the stream, {self._device}, got {tensor.device}")

    def _given(self, x: Tensor, inputs: Mapping[str, object]) -> list[Tensor]:
        """The keyword inputs in the cell's order, as kernels take them; a sentence for what is wrong."""
        if inputs.keys() != self._widths.keys():
            raise TypeError(
                f"cell {self.layer.cell.name} takes the keyword inputs {', '.join(self._widths) or '(none)'}, "
                f"got {', '.join(inputs) or '(none)'}"
            )
        found, lead = [], x.shape[:-1]
        for name, width in self._widths.items():
            value, shape = inputs[name], (*lead, width)
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor of shape {shape}, got {type(value).__name__}")
            if width == 1 and value.shape == lead:
                value = value.unsqueeze(-1)
            if value.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
            found.append(self._taken(name, value))
        return found

    def _into(self, x: Tensor, out: object, result: Tensor, given: Sequence[Tensor]) -> Tensor:
        """A step into memory of any strides."""
        if not isinstance(out, Tensor):
            raise TypeError(f"out must be a tensor of shape {tuple(result.shape)}, got {type(out).__name__}")
        if out.shape != result.shape:
            raise ValueError(f"out must have shape {tuple(result.shape)}, got {tuple(out.shape)}")
        self._check_kind("out", out)
        if out.requires_grad:
            raise ValueError(
                "out must not require a gradient, since a stream records none, but its requires_grad is set"
            )
        y = torch.empty_like(result)
        self._engine.step(x, y, given)
        return out.copy_(y)

    @property
    def state(self) -> Tensor | tuple[Tensor, ...]:
        """A copy of the state, (num_layers, batch_size, hidden_size), a tuple of them for cells with several; what is
        assigned is copied too. The layer's own final states fit."""
        states = self._engine.states.clone()
        return states[0] if len(states) == 1 else tuple(state.clone() for state in states)

    @state.setter
    def state(self, value: Tensor | tuple[Tensor, ...]) -> None:
        own = self._engine.states
        shape, names = tuple(own.shape[1:]), self.layer.cell.states
        given = list(value) if isinstance(value, (tuple, list)) else [value]
        if len(given) != len(names):
            form = "a tensor" if len(names) == 1 else f"a tuple of {len(names)} tensors"
            raise TypeError(f"state must be {form} of shape {shape}, got {len(given)}")
        for name, state in zip(names, given, strict=True):
            if not isinstance(state, Tensor):
                raise TypeError(f"state {name} must be a tensor of shape {shape}, got {type(state).__name__}")
            if state.shape != shape:
                raise ValueError(f"state {name} must have shape {shape}, got {tuple(state.shape)}")
            if state.dtype != self._kind:  # the layer's own final states may be in its dtype
                self._check_kind(f"state {name}", state)
        with torch.no_grad():
            own.copy_(torch.stack(given))

    def reset(self, rows: Any = None) -> None:
        """Set the state to that of a beginning: zero, or the layer's learned initial state as the stream last took it
        over.

        Args:
            rows: only these rows of the batch: an int, ints, or a mask of shape (batch_size,); all when absent.

        Raises:
            ValueError: for rows that are not there or are no rows.
        """
        if rows is None:
            self._engine.states.copy_(self._start)
            return
        n = self.batch_size
        try:
            index = torch.as_tensor(rows, device=self._device)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"rows must be an int, ints or a mask of shape ({n},), got {rows!r}") from None
        if index.dtype == torch.bool:
            if index.shape != (n,):
                raise ValueError(f"a mask of rows must have shape ({n},), got {tuple(index.shape)}")
        elif index.numel() == 0:
            return
        elif index.is_floating_point() or index.is_complex() or index.dim() > 1:
            raise ValueError(f"rows must be an int, ints or a mask of shape ({n},), got {rows!r}")
        elif int(index.min()) < 0 or int(index.max()) >= n:
            raise ValueError(f"rows must lie between 0 and {n - 1}, got {rows!r}")
        self._engine.states[:, :, index if index.dtype == torch.bool else index.reshape(-1)] = self._start

    def refresh(self) -> None:
        """Take over the layer's weights as they are now; until then steps use those of before. The state stays.

        Raises:
            ValueError: when the layer has moved to another dtype or device.
        """
        weight = self.layer._a_weight(torch.empty(0, dtype=self._own_dtype, device=self._device))
        if weight.dtype != self._own_dtype or weight.device != self._device:
            raise ValueError(
                f"the layer must be as the stream was made, {self._own_dtype} on {self._device}, but is {weight.dtype} "
                f"on {weight.device}; call layer.stream() again"
            )
        with torch.inference_mode(False), torch.no_grad(), self._precision():
            self._engine.pack(_parameters(self.layer))
            self._start = _start(self.layer, self._engine.states)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a stream holds addresses and cannot be copied or pickled; save its .state and make another")

    def __repr__(self) -> str:
        return f"Stream({self.layer!r}, batch_size={self.batch_size})"


def _check_layer(layer: Layer, weight: Tensor) -> None:
    if layer.bidirectional:
        raise ValueError(
            "a bidirectional layer cannot be streamed, since its reverse direction starts at the last step"
        )
    if any(size != layer.hidden_size for size in layer.state_sizes):
        raise ValueError("a layer with a proj_size cannot be streamed; use one whose output is its state")
    if weight.device.type == "meta":
        raise ValueError("the layer must have weights to stream, but they are on the meta device, which has none")


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be greater than zero, got {value}")


def _parameters(layer: Layer) -> list[dict[str, Tensor]]:
    return [layer._weights(k, for_calls=False) for k in range(layer.num_layers)]


def _start(layer: Layer, states: Tensor) -> Tensor:
    """The state that layers begin with, (states, layers, 1, hidden_size)."""
    names = getattr(layer, "_initial_names", ())
    if not names:
        return torch.zeros_like(states[:, :, :1])
    return torch.stack([layer._rounded(getattr(layer, name)).detach() for name in names], 1).unsqueeze(2)


class _Widened:
    """The steps of a stream in bfloat16: in float32, and so are the states."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.pack = engine, engine.pack

    @property
    def states(self) -> Tensor:
        return self.engine.states

    @property
    def remark(self) -> str:
        return self.engine.remark

    def step(self, x: Tensor, out: Tensor, given: Sequence[Tensor]) -> None:
        y = torch.empty_like(out, dtype=torch.float32)
        self.engine.step(x.float(), y, [value.float() for value in given])
        out.copy_(y)


class _Sequences:
    """Steps as sequences of one step: for the eager backend."""

    remark = ""

    def __init__(
        self,
        cell: Cell,
        choice: Choice,
        rows: int,
        units: int,
        parameters: Parameters,
        half: torch.dtype | None = None,
    ) -> None:
        self.cell, self.choice, self.half = cell, choice, half
        like = next((p for own in parameters for p in own.values()), torch.empty(0))
        self.states = like.new_zeros(len(cell.states), len(parameters), rows, units)
        self.pack(parameters)

    def pack(self, parameters: Parameters) -> None:
        self.parameters = [{name: p.detach().clone() for name, p in own.items()} for own in parameters]

    def step(self, x: Tensor, out: Tensor, given: Sequence[Tensor]) -> None:
        rows = self.states.shape[2]
        y = x.reshape(1, rows, -1)
        named = zip(self.cell.inputs, given, strict=True)
        inputs = {name: value.reshape(1, rows, -1) for (name, _), value in named}
        finals: list[list[Tensor]] = []
        with torch.no_grad(), backend(self.choice.name, tier=self.choice.tier or None):
            for k, own in enumerate(self.parameters):
                y, final = ops.run(self.cell, y, inputs, list(self.states[:, k]), own, half=self.half)
                finals.append(final)
            # Written only now: a fault on the way leaves the state as it was.
            for k, final in enumerate(finals):
                self.states[:, k] = torch.stack(final)
            out.copy_(y.reshape(out.shape))
