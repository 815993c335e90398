"""torch.nn's GRUCell, LSTMCell and RNNCell by name: one step of a cell. Error types are those of torch.nn's cells,
where a wrong dtype and a negative size are RuntimeErrors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from gatewise import cells, ops
from gatewise.backends import eager, kernels_asked_for
from gatewise.compiler.cell import Cell
from gatewise.nn import held, symbolic
from gatewise.nn.base import CellModule, narrowed, rounding
from gatewise.nn.checks import check_constructor, check_like, check_nonlinearity, whole_states


class SingleStep(CellModule):
    """One step of a cell; parameters are ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh``, as torch.nn's."""

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        bias: bool,
        redundant_bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_constructor(type(self).__name__, cell, {}, {"bias": bias}, 0.0, redundant_bias)
        _check_step_sizes(type(self).__name__, {"input_size": input_size, "hidden_size": hidden_size})
        self.cell, self.input_size, self.hidden_size, self.bias = cell, int(input_size), int(hidden_size), bias
        widths = {"weight_ih": [self.input_size], "weight_hh": [self.hidden_size], "bias_ih": [], "bias_hh": []}
        for name, width in widths.items():
            gates = cell.rows("weight_hh" if redundant_bias and name == "bias_hh" else name)
            shape = [len(gates) * self.hidden_size, *width]
            present = gates and (bias or not name.startswith("bias"))
            value = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if present else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√hidden_size, in torch's order."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @property
    def backend(self) -> str:
        return "eager: a size is zero, which no kernel computes" if self._refused_by_kernels() else super().backend

    def _refused_by_kernels(self) -> bool:
        """Whether a size is zero, which torch's cells allow and no kernel computes.

        Raises:
            RuntimeError: when a backend with kernels was asked for by name.
        """
        refused = 0 in (self.input_size, self.hidden_size)
        if refused and kernels_asked_for():
            raise RuntimeError(
                f"the {kernels_asked_for()} backend computes no width of zero, got {self}; use another backend"
            )
        return refused

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")

    def _step(self, x: Tensor, hx: Any) -> list[Tensor]:
        """The states after one step, each in the shape of the argument."""
        if isinstance(x, Tensor):
            x = self._out_of_autocast(x)
        _check_step(self, x)
        batched = x.dim() == 2
        wide = self._rounded(x)
        rows = wide if batched else wide.unsqueeze(0)
        final = narrowed(self._run(rows, self._initial(wide, rows, hx)), rounding(x), hx)
        return final if batched else [f.squeeze(0) for f in final]

    def _initial(self, x: Tensor, rows: Tensor, hx: Any) -> list[Tensor]:
        if hx is None:
            return [rows.new_zeros(rows.shape[0], self.hidden_size) for _ in self.cell.states]
        states = [self._widened(self._out_of_autocast(s)) for s in whole_states(self.cell, hx)]
        _check_step_states(self, states, x)
        return states if x.dim() == 2 else [s.unsqueeze(0) for s in states]

    def _run(self, x: Tensor, states: Sequence[Tensor]) -> list[Tensor]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        if self.quantised is not None:
            self._check_inference((x, *states))
            return self._run_quantised(x.unsqueeze(0), states, names)
        # To ask a module for an attribute takes 0.6 µs; a parametrised weight is an attribute and not in there.
        own: Mapping[str, Any] = {} if torch.compiler.is_compiling() else self._parameters
        parameters = {name: own[name] if name in own else getattr(self, name) for name in names}
        weights = self._all_rounded({name: value for name, value in parameters.items() if value is not None})
        x = x.unsqueeze(0)
        if self._refused_by_kernels():
            return eager.sequence(self.cell, x, {}, states, weights)[1]
        return ops.run(self.cell, x, {}, states, weights, half=self._half(x))[1]

    def _run_quantised(self, x: Tensor, states: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
        here = {name: name for name in names if getattr(self, name) is not None}
        known = held.run(self, here, x, states, False)
        if known is None:
            known = ops.run(self.cell, x, {}, states, {n: getattr(self, n) for n in here}, half=self._half(x))
        return known[1]


class GRUCell(SingleStep):
    """One step of a gated recurrent unit with the arguments of ``torch.nn.GRUCell``.

    ``reset_after=False`` is Cho et al. 2014 (arXiv 1406.1078v3), eq. 5-8, with no ``bias_hh``; ``reset_after=True`` is
    torch's formula, with its weights and results, which do not load into the other.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = False,
    ) -> None:
        self.reset_after = reset_after
        cell = cells.gru_reset_after if reset_after else cells.gru
        super().__init__(cell, input_size, hidden_size, bias, reset_after, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after one step.

        Args:
            input: (B, input_size) or (input_size).
            hx: the state before, (B, hidden_size) or (hidden_size); zeros when absent.

        Raises:
            TypeError, ValueError, RuntimeError: for what is no tensor, or has a wrong number of dimensions, size,
                dtype or device; the types are torch.nn's.
        """
        return symbolic.as_leaf(self, input, {}, hx=hx) if isinstance(input, Proxy) else self._step(input, hx)[0]

    def extra_repr(self) -> str:
        return super().extra_repr() + (", reset_after=True" if self.reset_after else "")

    def _carries_formula(self) -> bool:
        return not self.reset_after


class LSTMCell(SingleStep):
    """One step of a long short-term memory with the arguments, weights and results of ``torch.nn.LSTMCell``."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(cells.lstm, input_size, hidden_size, bias, True, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The states (h, c) after one step; input, hx and errors as in ``GRUCell``, with hx a pair (h, c)."""
        h, c = symbolic.as_leaf(self, input, {}, hx=hx) if isinstance(input, Proxy) else self._step(input, hx)
        return h, c

    def _carries_formula(self) -> bool:
        return False


class RNNCell(SingleStep):
    """One step of the plain recurrent network with the arguments, weights and results of ``torch.nn.RNNCell``."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        cell = cells.rnn if nonlinearity == "tanh" else cells.rnn_relu
        super().__init__(cell, input_size, hidden_size, bias, True, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after one step; input, hx and errors as in ``GRUCell``."""
        return symbolic.as_leaf(self, input, {}, hx=hx) if isinstance(input, Proxy) else self._step(input, hx)[0]

    def extra_repr(self) -> str:
        return super().extra_repr() + (", nonlinearity=relu" if self.nonlinearity == "relu" else "")

    def _carries_formula(self) -> bool:
        return False


def _check_step_sizes(name: str, sizes: Mapping[str, object]) -> None:
    """Sizes as torch.nn's cells take them: zero is one."""
    for argument, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"{name}: {argument} must be an int, got {type(value).__name__}")
        if int(value) < 0:
            raise RuntimeError(f"{name}: {argument} must be zero or greater, got {value}")


def _check_step(layer: CellModule, x: object) -> None:
    name = type(layer).__name__
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input must be a tensor, got {type(x).__name__}")
    if x.dim() not in (1, 2):
        raise ValueError(f"{name}: input must have 1 (unbatched) or 2 dimensions, got {x.dim()}")
    if x.shape[-1] != layer.input_size:
        raise RuntimeError(
            f"{name}: the last dimension of input must be input_size {layer.input_size}, got {x.shape[-1]}"
        )
    weight = layer._a_weight(x)
    check_like(f"{name}: input", x, weight.dtype, weight.device, "the weights", RuntimeError)


def _check_step_states(layer: CellModule, states: list[Tensor], x: Tensor) -> None:
    names = layer.cell.states
    shape = (*x.shape[:-1], layer.hidden_size)
    for name, state in zip(names, states, strict=True):
        what = f"{type(layer).__name__}: " + ("hx" if len(names) == 1 else f"state {name} of hx")
        if state.dim() not in (1, 2):
            raise ValueError(f"{what} must have 1 (unbatched) or 2 dimensions, got {state.dim()}")
        if tuple(state.shape) != shape:
            raise RuntimeError(f"{what} must have shape {shape}, got {tuple(state.shape)}")
        check_like(what, state, x.dtype, x.device, "the input", RuntimeError)
