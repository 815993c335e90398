"""Layers whose weights lie in int8 or bfloat16, for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

from gatewise.compiler.cell import is_matrix
from gatewise.nn.base import CellModule
from gatewise.nn.layer import Layer

MOST_COLUMNS = (2**31 - 1) // 127**2
KINDS = {"int8": torch.int8, "bf16": torch.bfloat16}


def quantize(model: nn.Module, to: str = "int8") -> nn.Module:
    """A copy of a model whose recurrent layers hold their weights in narrower numbers: for inference alone.

    ``"int8"``: each row of a weight matrix is bytes with a scale of its own. A call makes bytes of each row of its
    input and of its states too, with a scale for each row and step; products of bytes are summed exactly, in 32 bits,
    then scaled to float32. Biases, states and everything element by element stay as they were. A row that holds NaN or
    infinity gives NaN in every unit.

    ``"bf16"``: weights are rounded to bfloat16; everything else stays in float32, but for products on a processor that
    takes them in bfloat16.

    What is no recurrent layer of Gatewise (embeddings, ``nn.Linear``) stays as it is.

    Args:
        model: a ``Recurrent``, a ``GRUCell`` or their like, or a module that has some; in float32, for int8 also in
            float64. It is left as it was. to: ``"int8"`` or ``"bf16"``.

    Returns:
        The copy, in evaluation mode. Its ``state_dict`` has the narrow weights under their names, for int8 beside
        their scales (``weight_ih_l0_scale``), and loads into a model that was quantised to the same.

    Raises:
        TypeError, ValueError: for what is no module, a model without such layers, or one that cannot be quantised.

    >>> import torch, gatewise as gw
    >>> small = gw.quantize(gw.GRU(40, 256))
    >>> y, h = small(torch.randn(100, 1, 40))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    _check(model, to)
    return narrowed_in_place(copy.deepcopy(model), to)


def narrowed_in_place(model: nn.Module, to: str) -> nn.Module:
    """As ``quantize``, of the model itself."""
    for module in _check(model, to):
        module.narrow_weights(_matrices(module), KINDS[to])
    return model.eval()


def quantised_to(model: nn.Module) -> str:
    """``"int8"`` or ``"bf16"`` where the layers of a model were quantised, else an empty text."""
    found = {module.quantised for module in _layers(model)} - {None}
    return next((name for name, dtype in KINDS.items() if dtype in found), "")


def _layers(model: nn.Module) -> list[CellModule]:
    return [module for module in model.modules() if isinstance(module, CellModule)]


def _matrices(module: CellModule) -> list[str]:
    """The names here of the weights that something is multiplied with."""
    if isinstance(module, Layer):
        return [full for names in module._parameter_names for name, full in names.items() if is_matrix(name)]
    return [name for name in ("weight_ih", "weight_hh") if getattr(module, name) is not None]


def _check(model: nn.Module, to: str) -> list[CellModule]:
    """The layers, none of which was changed yet."""
    if to not in KINDS:
        raise ValueError(f"to: got {to!r}, expected {' or '.join(map(repr, KINDS))}")
    found = _layers(model)
    if not found:
        raise ValueError(
            "model: got one without a recurrent layer of Gatewise, expected at least one; gatewise.replace swaps "
            "torch's layers for them"
        )
    for module in found:
        problem = _problem(module, to)
        if problem:
            raise ValueError(f"model: got {type(module).__name__}({module.extra_repr()}) {problem}")
    return found


def _problem(module: CellModule, to: str) -> str:
    """Why a layer cannot be quantised; empty where it can."""
    if module.quantised is not None:
        return "that is quantised already, expected float32 weights"
    if getattr(module, "proj_size", 0):
        return "with a proj_size, which no kernel computes; expected a layer without one"
    if 0 in (module.input_size, module.hidden_size):
        return "with a size of zero, expected at least 1"
    dtypes = (torch.float32, torch.float64) if to == "int8" else (torch.float32,)
    for name in _matrices(module):
        weight = module._parameters.get(name)
        if weight is None:
            return f"whose {name} is parametrised; expected a parameter (see parametrize.remove_parametrizations)"
        if weight.is_meta:
            return "on the meta device, where weights have no values"
        if weight.shape[1] > MOST_COLUMNS:
            return (
                f"with {weight.shape[1]} columns, whose sums may not fit into 32 bits; expected at most {MOST_COLUMNS}"
            )
        if weight.dtype not in dtypes:
            return f"with weights in {weight.dtype}, expected {' or '.join(map(str, dtypes))}"
        if not bool(weight.isfinite().all()):
            return f"whose {name} has infinity or not-a-number, expected finite numbers"
    return ""
