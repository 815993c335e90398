"""What Gatewise takes from torch that is not public: each with its reason, and what happens where it is missing.

Nothing else in the package names a private part of torch; a test reads the code. Where a part is missing, what stands
in for it is slower, or refuses: never wrong. ``torch.nn.Module`` is made to be derived from, so that the attributes
which it keeps for that (``_parameters``, ``_load_from_state_dict``) are not counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

F = TypeVar("F", bound=Callable[..., Any])


def _private(path: str, otherwise: Callable[..., object]) -> Any:
    """What lies at this path below torch; where there is no such thing, what stands in for it."""
    try:
        return reduce(getattr, path.split("."), torch)
    except AttributeError:
        return otherwise


transforms_active: Callable[[], bool] = _private("_C._are_functorch_transforms_active", lambda: True)
"""Whether a transformation of torch.func is active, in 0.1 µs. Missing: as if one were, which is slower."""

_modes: Callable[[], int] = _private("_C._len_torch_dispatch_stack", lambda: 1)
_tracing: Callable[[], object] = _private("_C._get_tracing_state", lambda: True)
_profiled: Callable[[], bool] = _private("_C._autograd._profiler_enabled", lambda: True)


def observed() -> bool:
    """Whether somebody wants to see calls of operators: the compiler, a transformation, a dispatch mode, forward-mode
    differentiation, torch.jit.trace, a profiler. Else the dispatcher, which takes as long as a small step, can be left
    out. Missing: as if somebody did."""
    return (
        torch.compiler.is_compiling()
        or transforms_active()
        or _modes() != 0
        or in_forward_mode()
        or _tracing() is not None
        or _profiled()
    )


def flop_tables() -> list[dict[Any, Any]]:
    """The formulas of every ``FlopCounterMode`` that counts now, and those that later ones begin with. The public way
    to add one imports triton, where there is one, whether anybody counts or not. Missing: nothing is counted."""
    module = sys.modules.get("torch.utils.flop_counter")  # whoever counts has imported it
    if module is None:
        return []
    try:
        modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack()
        counters = [mode.counter for mode in modes if isinstance(mode, module._FlopCounterMode)]
        return [module.flop_registry, *(counter.flop_registry for counter in counters)]
    except AttributeError:
        return []


any_autocast: Callable[[], bool] = _private("_C._is_any_autocast_enabled", lambda: True)
"""Whether torch.autocast is on for any device: 0.1 µs, where asking for a tensor's device takes 0.7. Missing: as if it
were on, which is slower."""


def in_forward_mode() -> bool:
    """Whether a level of forward-mode differentiation is open. Missing: as if one were, so that each tensor is looked
    at, which is slower."""
    level: int = getattr(forward_ad, "_current_level", 0)
    return level >= 0


def dual_below(tensor: Tensor) -> bool:
    """Whether a forward-mode level of torch.func lies below the level that computes now, as in ``hessian``, whose
    tangents would be lost. Missing: as if one did, so that the call is refused."""
    functorch: Any = getattr(torch._C, "_functorch", None)
    try:
        below = (functorch.get_interpreter_stack() or [])[:-1]
        levels = {i.level() for i in below if i.key() == functorch.TransformType.Jvp}
        while levels and functorch.is_functorch_wrapped_tensor(tensor):
            if functorch.maybe_get_level(tensor) in levels:
                return True
            tensor = functorch.get_unwrapped(tensor)
    except AttributeError:
        return True
    return False


_wrapped: Callable[[Tensor], bool] = _private("_C._functorch.is_functorch_wrapped_tensor", lambda _: False)


def without_memory(tensor: Tensor) -> bool:
    """Whether what says that it lies in memory does not: a tensor of torch.func, or one of zeros that torch does not
    write out. Missing: torch raises an error where its memory is asked for."""
    return _wrapped(tensor) or (hasattr(tensor, "_is_zerotensor") and tensor._is_zerotensor())


is_batched: Callable[[Tensor], bool] = _private("_C._functorch.is_legacy_batchedtensor", lambda _: False)
"""Whether a tensor is wrapped by the vmap of ``is_grads_batched`` and ``vectorize=True``, which looks like any other.
Missing: such gradients raise torch's error that a tensor has no storage."""


def batch_level() -> int:
    """The innermost level of that vmap; 0 outside of it."""
    level: int = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    return level


def without_batch(tensor: Tensor, level: int) -> Tensor:
    """The tensor with the examples of that level as its first dimension; one example where it is not batched there."""
    return torch._remove_batch_dim(tensor, level, 1, 0)


def with_batch(tensor: Tensor, level: int) -> Tensor:
    """The inverse of ``without_batch``."""
    return torch._add_batch_dim(tensor, 0, level)


def apply(function: Any, *arguments: Any) -> Any:
    """``function.apply`` of an autograd function, without its inspection of the signature where no transformation of
    torch.func is active: that takes a tenth of a small training step. Missing: the inspection stays."""
    if torch.compiler.is_compiling() or transforms_active():
        return function.apply(*arguments)
    return super(torch.autograd.Function, function).apply(*arguments)


def constant(function: F) -> F:
    """``torch.compiler.assume_constant_result``, which only sets this attribute, but imports torch's compiler for it:
    70 MB and a second at each import of Gatewise. Missing: torch.compile(fullgraph=True) stops where it is called."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
