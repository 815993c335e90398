"""The recurrent layer of any cell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from gatewise import ops
from gatewise.backends import EAGER, cudnn
from gatewise.compiler.cell import Cell
from gatewise.nn import held, packed, symbolic
from gatewise.nn import initialise as initialisation
from gatewise.nn.base import narrowed, rounding
from gatewise.nn.checks import (
    check_constructor,
    check_input,
    check_keyword_inputs,
)
from gatewise.nn.initialise import Initialise
from gatewise.nn.layer import Layer, State, in_turn, variants
from gatewise.nn.step_inputs import Lengths, Run, StepInputs, step_inputs
from gatewise.nn.stream import Stream
from gatewise.nn.trace import Recorder, Trace


class Recurrent(Layer):
    """A stack of recurrent layers of one cell, with the arguments, names and shapes of ``torch.nn.GRU``.

    Args:
        cell: the equations, e.g. ``gatewise.cells.gru`` or a cell of one's own.
        input_size: width of x. hidden_size: width of every state.
        num_layers: layers in the stack. bias: whether gates have biases.
        batch_first: input and output are (B, T, width) instead of (T, B, width).
        dropout: probability with which outputs between layers are zeroed in training.
        bidirectional: a second set of weights runs from the last step to the first; outputs are concatenated.
        redundant_bias: keep torch's ``bias_hh`` for every gate, though a gate needs one bias only.
        learn_initial_state: where no ``hx`` is given, and after a reset, start from the parameters ``h_0_l{k}``, which
            have one row for each state.
        recompute: training keeps the states of every step and no gates, which the backward computes again: less memory,
            more time. On the cpu backend.
        initialise: how parameters start: ``"torch"``, ``"orthogonal"``, ``"chrono"``, ``"remember"``, biases by gate
            (``{"f": 1.0}``) or a function of the layer; see ``gatewise.nn.initialise``.

    Parameters are ``weight_ih_l{k}``, ``weight_hh_l{k}``, ``bias_ih_l{k}``, ``bias_hh_l{k}`` (suffix ``_reverse``); row
    blocks follow the order in which the equations first use the gates, and empty ones are left out. They start uniform
    in ±1/√hidden_size, as torch's. A cell with keyword inputs, ``diagonal`` weights and vectors also
    has ``weight_{name}_l{k}`` for each input that a gate multiplies by a matrix, ``weight_diagonal_l{k}``, and
    ``vector_{name}_l{k}`` for each vector.

    In bfloat16 a layer computes in float32, from weights and input as they were rounded; no state is rounded from step
    to step, and results are at the end, but for final states where ``hx`` came in float32. Where the processor
    multiplies bfloat16, states are rounded for their products, and for nothing else; ``.backend`` says so, and a tier
    asked for by name (``gatewise.backend``) prevents it. Under ``torch.autocast`` a layer in float32 gives the same
    results, in autocast's dtype, and gradients to its own parameters.

    On the cpu backend directions run side by side, and layers as a wave-front, where one call would leave threads idle:
    up to about 128 units and a few rows; with two threads up to 256. Results have the same bits.

    Raises:
        TypeError, ValueError: for arguments of the wrong type or value.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        redundant_bias: bool = False,
        learn_initial_state: bool = False,
        recompute: bool = False,
        initialise: Initialise = "torch",
    ) -> None:
        super().__init__()
        check_constructor(
            type(self).__name__,
            cell,
            {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers},
            {
                "bias": bias,
                "batch_first": batch_first,
                "bidirectional": bidirectional,
                "learn_initial_state": learn_initial_state,
                "recompute": recompute,
            },
            dropout,
            redundant_bias,
        )
        check_keyword_inputs(type(self).__name__, cell, num_layers)
        initialisation.check(type(self).__name__, initialise, cell, bias)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout acts between layers, so dropout={dropout} with num_layers=1 does nothing",
                stacklevel=2 if type(self) is Recurrent else 3,
            )
        self.cell = cell
        self._variants = variants(cell, learn_initial_state)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, int(num_layers)
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.redundant_bias = bool(bidirectional), redundant_bias
        self.learn_initial_state, self.recompute, self.initialise = learn_initial_state, recompute, initialise
        if recompute and len(set(self.state_sizes)) > 1:
            raise ValueError(f"{type(self).__name__}: recompute is not available with proj_size")
        self._parameter_names: list[dict[str, str]] = []
        self._initial_names: list[str] = []
        for layer in range(num_layers):
            width = input_size if layer == 0 else self.state_sizes[0] * self.num_directions
            for suffix in ("", "_reverse")[: self.num_directions]:
                self._add_layer(f"_l{layer}{suffix}", width, device, dtype)
        if learn_initial_state:
            self._add_initial_states(device, dtype)
        self.reset_parameters()

    _remade = frozenset({"_variants"})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._variants = variants(self.cell, self.learn_initial_state)

    def _add_layer(self, suffix: str, width: int, device: Any, dtype: Any) -> None:
        names = {}
        for name, shape in self._shapes(width).items():
            if self.bias or not name.startswith("bias"):
                names[name] = name + suffix
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self._parameter_names.append(names)

    def _add_initial_states(self, device: Any, dtype: Any) -> None:
        if len(set(self.state_sizes)) > 1:
            raise ValueError(f"{type(self).__name__}: learn_initial_state is not available with proj_size")
        for names in self._parameter_names:
            name = "h_0_l" + next(iter(names.values())).rpartition("_l")[2]
            start = torch.empty(len(self.cell.states), self.hidden_size, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(start))
            self._initial_names.append(name)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """The parameters of one direction of one layer, whose input has this width."""
        shapes = self.cell.parameter_shapes(width, self.hidden_size)
        if self.redundant_bias:
            shapes["bias_hh"] = (len(self.cell.rows("weight_hh")) * self.hidden_size,)
        return shapes

    def reset_parameters(self) -> None:
        """Start anew, in the way that ``initialise`` says; on the meta device there is nothing to start."""
        if not any(parameter.is_meta for parameter in self.parameters()):
            initialisation.start(self, self.initialise)

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of every layer and direction, as in ``torch.nn.GRU``."""
        return [[getattr(self, name) for name in names.values()] for names in self._parameter_names]

    @property
    def _all_weights(self) -> list[list[str]]:
        """The names of ``all_weights``; as the two below, for scripts that read them in ``torch.nn``'s layers."""
        return [list(names.values()) for names in self._parameter_names]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Tensor | None]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: Sequence[Tensor | None]) -> None:
        """Scripts that replace a weight by its name then write the list anew, which changes nothing here."""
        own = self._flat_weights
        if len(weights) != len(own) or any(a is not b for a, b in zip(weights, own, strict=True)):
            raise AttributeError(
                f"{type(self).__name__}: _flat_weights follows from the weights; set those by their names, such as "
                f"{self._flat_weights_names[0]}"
            )

    def flatten_parameters(self) -> None:
        """Nothing to do: the kernels take the weights as they are. Here for code written for ``torch.nn``."""

    def stream(self, batch_size: int = 1, *, threads: int | None = None) -> Stream:
        """The layer one step at a time, for x that arrives step by step; see ``gatewise.nn.stream``."""
        return Stream(self, batch_size, threads=threads)

    @property
    def backend(self) -> str:
        """What runs this module now, and why, e.g. ``cpu/avx512: compiled for this machine``."""
        said = super().backend
        without = self.recompute and said.startswith((EAGER, cudnn.NAME))
        return f"{said}; recompute acts where kernels run" if without else said

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if type(self) is Recurrent:
            parts.insert(0, self.cell.name)
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        defaults |= {"learn_initial_state": False, "recompute": False}
        parts += [f"{k}={getattr(self, k)}" for k, default in defaults.items() if getattr(self, k) != default]
        if self.quantised is not None:
            parts.append(f"quantised={self.quantised}")
        return ", ".join(parts)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Lengths | None = None,
        reset: Tensor | PackedSequence | None = None,
        **inputs: Tensor | PackedSequence,
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run over a sequence.

        Args:
            input: (T, B, input_size), (B, T, input_size) with ``batch_first``, or (T, input_size) unbatched; or a
                PackedSequence, sorted or not.
            hx: the states before the first step, (num_layers · directions, B, hidden_size) each, without B when
                unbatched; a tuple for cells with several states; zeros when absent.
            lengths: (B,) ints, in any order, on any device: how many steps of each row count. Past the end the output
                is zero; the final state is that of the last step that counts, or the initial one for a length of 0.
            reset: (T, B) bool, (B, T) with ``batch_first``, (T,) unbatched: where it is True the state before the step
                is zero, or the learned one, instead of what the steps before, or ``hx``, left. On the way back no
                state crosses from such a step to the one before it; from the first step, none leaves.
            inputs: the keyword inputs of the cell, for every layer; laid out as ``input``, each with its own width, and
                for a width of 1 also without the last dimension. Beside a PackedSequence, ``reset`` and these are
                PackedSequences that were packed alike.

        Returns:
            The output (the first state) at every step, and the final states, in the layout of the arguments.

        Raises:
            TypeError, ValueError, RuntimeError: for what is no tensor, or has a wrong number of dimensions, size, dtype
                or device; the types are torch.nn's.
        """
        if isinstance(input, Proxy):
            return symbolic.as_leaf(self, input, inputs, hx=hx, lengths=lengths, reset=reset)
        if isinstance(input, PackedSequence):
            return packed.forward(self, self._run, input, hx, lengths, reset, inputs)
        return self._padded(input, hx, lengths, reset, inputs)

    def trace(
        self,
        input: Tensor,
        hx: State | None = None,
        *,
        lengths: Lengths | None = None,
        reset: Tensor | None = None,
        **inputs: Tensor,
    ) -> Trace:
        """Run over a sequence and keep the value of every gate at every step, without gradients.

        Arguments are those of a call, but for a PackedSequence.

        Raises:
            TypeError, ValueError, RuntimeError: as a call; and ValueError for a layer with ``proj_size``.
        """
        if any(size != self.hidden_size for size in self.state_sizes):
            raise ValueError(f"{type(self).__name__}: trace is not available with proj_size")
        recorder = Recorder(self)
        with torch.no_grad():
            y, final = self._padded(input, hx, lengths, reset, inputs, recorder)
        return Trace(y, final, recorder.by_name(input.dim() == 3))

    def _padded(
        self,
        input: Tensor,
        hx: State | None,
        lengths: Lengths | None,
        reset: object,
        inputs: Mapping[str, object],
        run: Run | None = None,
    ) -> tuple[Tensor, State]:
        """As ``forward``, of a tensor; ``run`` runs the directions in place of the layer's own ``_run``."""
        came = input.dtype if isinstance(input, Tensor) else None
        if came is not None:
            input = self._out_of_autocast(input)
        check_input(self, input)
        batched, half = input.dim() == 3, rounding(input)
        x = input if batched else input.unsqueeze(1)
        along = lengths is not None or reset is not None or inputs or run is not None
        if half is not None and not (came == half != x.dtype or (not along and self._narrow_calls(x, hx))):
            x = self._rounded(x)
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        states = self._initial(x, hx, batched)
        extras = step_inputs(self, x, batched, lengths, reset, inputs)
        x = x if extras is None else extras.blank(x)
        y, finals = self._through(x, states, extras, run)
        y, final = y if half is None else y.to(half), narrowed(self._together(finals), half, hx)
        if self.batch_first and batched:
            y = y.transpose(0, 1)
        if not batched:
            y, final = y.squeeze(1), [f.squeeze(1) for f in final]
        return y, final[0] if len(final) == 1 else tuple(final)

    def _through(
        self, x: Tensor, states: list[list[Tensor]], extras: StepInputs | None, run: Run | None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """The output of all layers, and the final states of each direction."""
        if len(states) == 1:  # by far the most common: what stacks need takes 3 µs
            y, final = (run or self._run)(0, x, states[0], extras)
            return y, [final]
        if run is not None or self.quantised is not None or any(size != self.hidden_size for size in self.state_sizes):
            through = run or self._run
            return self._stack(x, states, in_turn(lambda k, x, start: through(k, x, start, extras)))
        found = self._wave_front(x, states) if extras is None and self.num_layers > 1 else None
        return found or self._stack(x, states, lambda layer, x, start: self._directions(layer, x, start, extras))

    def _wave_front(self, x: Tensor, states: list[list[Tensor]]) -> tuple[Tensor, list[list[Tensor]]] | None:
        """As ``_through``, of layers that run at one time; None where they do not."""
        recomputed = self.recompute and torch.is_grad_enabled()
        dropping = self.dropout > 0 and self.training
        if self.bidirectional or recomputed or dropping:
            return None
        choice = ops.wave_front(self.cell, x, self.hidden_size, self._half(x))
        if choice is None:
            return None
        return ops.run_stack(self.cell, x, states, [self._weights(k, x) for k in range(self.num_layers)], choice)

    def _directions(
        self, layer: int, x: Tensor, states: list[list[Tensor]], extras: StepInputs | None
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The directions of one layer: side by side where threads would idle."""
        if len(states) == 1:
            y, final = self._run(layer, x, states[0], extras)
            return [y], [final]
        sides = [self._side(2 * layer + d, x, own, extras) for d, own in enumerate(states)]
        found = ops.run_sides(self._variant(extras), x, sides, recompute=self.recompute, half=self._half(x))
        if extras is not None:
            found = [self._blanked(2 * layer + d, *own, extras) for d, own in enumerate(found)]
        return [y for y, _ in found], [final for _, final in found]

    def _variant(self, extras: StepInputs | None) -> Cell:
        """The cell with what comes along with x."""
        return self.cell if extras is None else self._variants[extras.kind]

    def _side(self, k: int, x: Tensor, states: list[Tensor], extras: StepInputs | None) -> ops.Side:
        """What the k-th direction reads beside x."""
        reverse = self.bidirectional and k % 2 == 1
        given = {} if extras is None else extras.of_cell(self.cell, x, self._starts(k), reverse)
        return ops.Side(given, states, self._weights(k, x), reverse)

    def _blanked(self, k: int, y: Tensor, final: list[Tensor], extras: StepInputs) -> tuple[Tensor, list[Tensor]]:
        """The results of the k-th direction where rows end and pasts are cut."""
        return extras.blank(y), extras.left(final, self._starts(k), self.bidirectional and k % 2 == 1)

    def _run(
        self, k: int, x: Tensor, states: list[Tensor], extras: StepInputs | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """One direction of one layer, the k-th in the order of the states, with what goes along with x."""
        reverse = self.bidirectional and k % 2 == 1
        if self.quantised is not None:
            self._check_inference((x, *states))
            known = held.run(self, self._parameter_names[k], x, states, reverse) if extras is None else None
            if known is not None:
                return known
        inputs, _, weights, _ = self._side(k, x, states, extras)
        if self.quantised is not None:
            self._check_inference(tuple(inputs.values()))
        cell, half = self._variant(extras), self._half(x)
        y, final = ops.run(cell, x, inputs, states, weights, reverse=reverse, recompute=self.recompute, half=half)
        return (y, final) if extras is None else self._blanked(k, y, final, extras)
