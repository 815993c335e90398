"""Weights in int8 or bfloat16 inside a module, in place of its parameters: for inference alone.

They are no buffers: nobody outside has the tensors, so they change only where a ``state_dict`` is loaded or the module
moves. What was made of them, such as packed weights, can be told from what is there now by the dictionary alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gatewise.nn.formula import FormulaInStateDict
from gatewise.quantization import grid

if TYPE_CHECKING:
    from typing_extensions import Self

SCALE = "_scale"
"""What follows the name of a weight in a ``state_dict`` for the scales of its rows."""
PACKINGS = "_packings"
"""Under which a module has what was packed of its weights, which is not saved with it."""


class Narrow(NamedTuple):
    """A weight matrix in bfloat16, or as bytes with the scale of each row."""

    numbers: Tensor
    scale: Tensor | None = None

    @staticmethod
    def of(weight: Tensor, dtype: torch.dtype) -> Narrow:
        return Narrow(*grid.weights(weight)) if dtype == torch.int8 else Narrow(weight.to(dtype))

    def whole(self) -> Tensor:
        """The numbers that it stands for, as a new tensor."""
        return self.numbers.float() if self.scale is None else grid.numbers(self.numbers, self.scale)


class NarrowWeights(FormulaInStateDict):
    """A module that may hold its weights so."""

    quantised: torch.dtype | None = None
    """What its weights are in after ``gatewise.quantize``: int8 or bfloat16."""
    _narrow: Mapping[str, Narrow] | None = None
    """By the names of the parameters that they stand for; never written into."""

    def narrow_weights(self, names: Iterable[str], dtype: torch.dtype) -> None:
        """Put narrow weights in the place of these parameters."""
        taken = {name: self._parameters.pop(name) for name in names}
        self._narrow = {n: Narrow.of(w.detach(), dtype) for n, w in taken.items() if w is not None}
        self.quantised = dtype
        self.requires_grad_(False)

    def share_narrow(self, layers: Mapping[str, NarrowWeights]) -> None:
        """Take over the narrow weights of single layers, as those with such suffixes; where they have none, nothing."""
        given = {n.replace("_l0", s): w for s, layer in layers.items() for n, w in (layer._narrow or {}).items()}
        if given:
            for name in given:
                del self._parameters[name]
            self._narrow, self.quantised = given, next(iter(layers.values())).quantised

    def __getattr__(self, name: str) -> Any:
        """A weight by its name: the numbers that it stands for."""
        narrow = self.__dict__.get("_narrow")
        return narrow[name].whole() if narrow and name in narrow else super().__getattr__(name)

    def _narrow_like(self, default: Tensor) -> Tensor:
        """A tensor of the dtype and device that the module computes in; of one without narrow weights, what was
        given."""
        for weight in (self._narrow or {}).values():
            device = weight.numbers.device
            return weight.scale if weight.scale is not None else torch.empty(0, dtype=torch.float32, device=device)
        return default

    def _check_inference(self, tensors: Iterable[Tensor]) -> None:
        """Refuse to compute what a gradient would be wanted of."""
        own = (parameter for parameter in self._parameters.values() if parameter is not None)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, *own)):
            raise RuntimeError(
                f"{type(self).__name__}: a quantised layer has no gradients, got a tensor that requires one; call it "
                "under torch.no_grad(), or train the model before quantize"
            )

    def train(self, mode: bool = True) -> Self:
        if mode and self.quantised is not None:
            raise RuntimeError(
                f"{type(self).__name__}: a quantised layer is for inference alone, got train(); train the model before "
                "quantize"
            )
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], *rest: Any, **named: Any) -> Self:
        super()._apply(fn, *rest, **named)  # type: ignore[no-untyped-call]
        if self._narrow is not None:
            moved = {
                n: Narrow(fn(w.numbers), None if w.scale is None else fn(w.scale)) for n, w in self._narrow.items()
            }
            if any(w.scale is not None and w.scale.dtype not in (torch.float32, torch.float64) for w in moved.values()):
                raise RuntimeError(f"{type(self).__name__}: int8 weights have scales in float32 or float64 alone")
            self._narrow = moved
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, weight in (self._narrow or {}).items():
            destination[prefix + name] = weight.numbers.clone()
            if weight.scale is not None:
                destination[prefix + name + SCALE] = weight.scale.clone()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        missing, errors = rest[2], rest[4]
        problems = self._of_another_kind(state_dict, prefix)
        taken: dict[str, Narrow] = {}
        for name, own in (self._narrow or {}).items():
            numbers = state_dict.pop(prefix + name, None)
            scale = None if own.scale is None else state_dict.pop(prefix + name + SCALE, None)
            if numbers is None or (own.scale is not None and scale is None):
                missing.append(prefix + name + ("" if numbers is None else SCALE))
                taken[name] = own
            elif problem := _problem(own, numbers, scale):
                problems.append(f"{prefix}{name} {problem}")
            else:
                like = own.scale
                copied = None if like is None or scale is None else _copied(like, scale)
                taken[name] = Narrow(_copied(own.numbers, numbers), copied)
        errors += problems
        if problems:
            return
        if self._narrow is not None:
            self._narrow = taken
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _of_another_kind(self, state_dict: Mapping[str, Any], prefix: str) -> list[str]:
        """What is wrong with weights that were quantised otherwise: copied, they would be other numbers."""
        names = [*self._parameters, *(self._narrow or ())]
        given = {n: state_dict[prefix + n] for n in names if isinstance(state_dict.get(prefix + n), Tensor)}
        wrong = {
            n: t.dtype
            for n, t in given.items()
            if (t.dtype == torch.int8) != (n in (self._narrow or {}) and self.quantised == torch.int8)
        }
        own = "int8" if self.quantised == torch.int8 else "no int8 weights"
        return [
            f"{prefix}{name} is of {dtype}, but the layer has {own}; see gatewise.quantize"
            for name, dtype in wrong.items()
        ]


def _copied(like: Tensor, value: Tensor) -> Tensor:
    return torch.empty_like(like).copy_(value.detach())


def _problem(own: Narrow, numbers: Tensor, scale: Tensor | None) -> str:
    """What is wrong with weights that are to take the place of others; empty where nothing is."""
    for mine, given in zip(own, (numbers, scale), strict=True):
        if mine is not None and given is not None and mine.shape != given.shape:
            return f"must have shape {tuple(mine.shape)}, got {tuple(given.shape)}"
    return "" if scale is None else grid.problem(numbers, scale)
