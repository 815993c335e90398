"""torch.nn's GRU, LSTM and RNN by name."""

from __future__ import annotations

import torch
from torch import Tensor

from gatewise import cells
from gatewise.nn import projected
from gatewise.nn.checks import check_no_projection, check_nonlinearity, check_projection
from gatewise.nn.initialise import Initialise
from gatewise.nn.recurrent import Recurrent
from gatewise.nn.step_inputs import StepInputs
from gatewise.ops import operators


class GRU(Recurrent):
    """Gated recurrent unit with the arguments of ``torch.nn.GRU``.

    ``reset_after=False`` is Cho et al. 2014 (arXiv 1406.1078v3), eq. 5-8: the reset gate acts on the state before the
    recurrent product. ``reset_after=True`` is torch's and cuDNN's formula, with their weights and results.

    Arguments, shapes and errors are those of ``Recurrent``; the state is one tensor,
    (num_layers · directions, B, hidden_size). Gates in the order of the weights: r, z, n.

    Raises:
        TypeError, ValueError: for arguments of the wrong type or value.
    """

    def __init__(
        self,
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
        reset_after: bool = False,
        learn_initial_state: bool = False,
        recompute: bool = False,
        initialise: Initialise = "torch",
        proj_size: None = None,
    ) -> None:
        check_no_projection("GRU", proj_size)
        if not isinstance(reset_after, bool):
            raise TypeError(f"GRU: reset_after must be True or False, got {reset_after!r}")
        cell = cells.gru_reset_after if reset_after else cells.gru
        self.reset_after = reset_after
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            redundant_bias=reset_after,
            learn_initial_state=learn_initial_state,
            recompute=recompute,
            initialise=initialise,
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + (", reset_after=True" if self.reset_after else "")

    def _carries_formula(self) -> bool:
        return not self.reset_after


class LSTM(Recurrent):
    """Long short-term memory with the arguments, weights and results of ``torch.nn.LSTM``; the state is (h, c).

    With ``proj_size`` h is projected to that width by ``weight_hr_l{k}`` (Sak et al. 2014, arXiv 1402.1128) in every
    step; such a layer runs step by step on the eager backend.

    Further arguments, shapes and errors are those of ``Recurrent``; the state is a tuple of two tensors,
    (num_layers · directions, B, hidden_size), h of width proj_size where there is one. Gates: i, f, g, o.
    ``forget_bias=1.0`` lets the forget gate start open (Gers et al. 2000); torch's starts half open.

    Raises:
        TypeError, ValueError: for arguments of the wrong type or value, proj_size among them (0 to hidden_size - 1).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        learn_initial_state: bool = False,
        recompute: bool = False,
        initialise: Initialise = "torch",
        forget_bias: float | None = None,
    ) -> None:
        check_projection(proj_size, hidden_size)
        if forget_bias is not None:
            if initialise != "torch":
                raise ValueError(
                    f"LSTM: forget_bias stands for initialise={{'f': …}}, but initialise is {initialise!r}"
                )
            initialise = {"f": forget_bias}
        self.proj_size = int(proj_size)
        super().__init__(
            cells.lstm,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            redundant_bias=True,
            learn_initial_state=learn_initial_state,
            recompute=recompute,
            initialise=initialise,
        )

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)

    @property
    def backend(self) -> str:
        if not self.proj_size:
            return super().backend
        projected.refuse_by_name()
        return "eager: proj_size projects the state in every step, which no kernel does"

    def extra_repr(self) -> str:
        sizes = f"{self.input_size}, {self.hidden_size}"
        projection = f", proj_size={self.proj_size}" if self.proj_size else ""
        return super().extra_repr().replace(sizes, sizes + projection, 1)

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        shapes = super()._shapes(width)
        if self.proj_size:
            shapes["weight_hh"] = (4 * self.hidden_size, self.proj_size)
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    def _kernels_round(self, device: torch.device, half: torch.dtype) -> bool:
        return not self.proj_size and super()._kernels_round(device, half)

    def _run(
        self, k: int, x: Tensor, states: list[Tensor], extras: StepInputs | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        if not self.proj_size:
            return super()._run(k, x, states, extras)
        operators.refuse_steps_in_onnx("proj_size projects the state in every step")
        reverse, weights = self.bidirectional and k % 2 == 1, self._weights(k)
        if extras is None:
            return projected.sequence(x, states, weights, reverse=reverse)
        y, final = projected.sequence(x, states, weights, extras.valid, extras.cuts(reverse), reverse=reverse)
        return extras.blank(y), extras.left(final, None, reverse)

    def _carries_formula(self) -> bool:
        return False


class RNN(Recurrent):
    """The plain recurrent network with the arguments, weights and results of ``torch.nn.RNN``.

    Further arguments, shapes and errors are those of ``Recurrent``; the state is one tensor,
    (num_layers · directions, B, hidden_size).

    Raises:
        TypeError, ValueError: for arguments of the wrong type or value; nonlinearity is ``"tanh"`` or ``"relu"``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        learn_initial_state: bool = False,
        recompute: bool = False,
        initialise: Initialise = "torch",
        proj_size: None = None,
    ) -> None:
        check_no_projection("RNN", proj_size)
        check_nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(
            cells.rnn if nonlinearity == "tanh" else cells.rnn_relu,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            redundant_bias=True,
            learn_initial_state=learn_initial_state,
            recompute=recompute,
            initialise=initialise,
        )

    def _carries_formula(self) -> bool:
        return False
