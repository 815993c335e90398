"""Live modules of torch, Gatewise, Flax and Equinox: the recurrent layers in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from gatewise.errors import InputError, UnsupportedError
from gatewise.formats.blocks import read
from gatewise.formats.compare import Reference, run
from gatewise.formats.flat import as_tensor, flattened
from gatewise.formats.found import Found, Here, Left
from gatewise.formats.jax_cells import layout_of
from gatewise.formats.layouts import Layout
from gatewise.formats.reverse import Reversed
from gatewise.formats.stack import GatewiseLayer, from_layer
from gatewise.formats.state_dicts import found_under
from gatewise.formats.trees import from_arrays
from gatewise.nn import Recurrent
from gatewise.nn.single_step import SingleStep

TORCH_BASES = (nn.RNNBase, nn.RNNCellBase)
TORCH = (nn.GRU, nn.LSTM, nn.RNN, nn.GRUCell, nn.LSTMCell, nn.RNNCell)
Own = dict[str, Tensor]


def of_module(module: nn.Module) -> Here:
    """The recurrent layers of torch's and Gatewise's in a module, by the names that ``named_modules`` gives them."""
    here: Here = []
    for name, child in _walked(module, "", set()):
        try:
            here.append(_of_torch(name, child) if isinstance(child, TORCH_BASES) else of_gatewise(name, child))
        except UnsupportedError as error:
            here.append(Left(name, str(error)))
    return here


def _walked(module: nn.Module, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """The recurrent modules, each once. The layer inside a ``Reversed`` is no layer of its own: it would be taken for
    one that runs forwards."""
    if id(module) in seen:
        return
    seen.add(id(module))
    if isinstance(module, (*TORCH_BASES, Recurrent, SingleStep, Reversed)):
        yield name, module
    for called, child in () if isinstance(module, Reversed) else module.named_children():
        yield from _walked(child, f"{name}.{called}".lstrip("."), seen)


def of_gatewise(name: str, layer: GatewiseLayer | Reversed) -> Found:
    """A layer of Gatewise's, which is its own reference.

    Raises:
        InputError: when no other format has its cell, or a ``Reversed`` has two directions.
    """
    reverse, inner = isinstance(layer, Reversed), layer.layer if isinstance(layer, Reversed) else layer
    stack = replace(from_layer(inner), reverse=reverse)
    if reverse and stack.bidirectional:
        raise UnsupportedError("it is a Reversed layer of two directions, which no other format has")
    itself = Reference("Gatewise itself", lambda given: run(inner, given, reverse))
    return Found(name, f"gatewise {inner.cell.name}", stack, itself)


def _of_torch(name: str, layer: Any) -> Found:
    if parametrize.is_parametrized(layer):
        raise UnsupportedError("its weights are parametrised; remove that first (torch.nn.utils.parametrize)")
    if type(layer) not in TORCH or "forward" in vars(layer):
        raise UnsupportedError(f"{type(layer).__name__} is a subclass of torch's layer, or has a forward of its own")
    own = {n: v.detach() for n, v in layer.state_dict().items()}
    found = found_under(name, isinstance(layer, nn.RNNCellBase), own, getattr(layer, "nonlinearity", None))
    stack = replace(found.stack, batch_first=bool(getattr(layer, "batch_first", False)))
    return Found(name, found.kind, stack, found.reference)


def of_jax(module: Any, variables: Any = None) -> Here:
    """The cells in a live module of Flax nnx or Equinox; of a linen cell, ``RNN`` or ``Bidirectional`` with its
    variables.

    Raises:
        InputError: for a module that is none of these.
    """
    if isinstance(module, (str, bytes, int, float)):
        raise InputError(f"module must be a module of Flax or Equinox, got {type(module).__name__}")
    tree = None if variables is None else variables.get("params", variables)
    found = _jax("", module, tree)
    if not found and tree is not None:
        kind = type(module.cell if type(module).__name__ == "RNN" and _is_flax(module) else module).__name__
        raise UnsupportedError(
            f"{kind} is no cell of linen that Gatewise computes; cells inside a larger module are found by their names "
            "when its variables alone are the source"
        )
    return found if found else _inside(module)


def _inside(module: Any) -> Here:
    """The cells of a larger module."""
    if type(module).__module__.startswith("flax.linen") or hasattr(module, "init_with_output"):
        raise InputError(
            "a linen module holds no weights: give its variables as the source; cells are found in them by their names"
        )
    here: Here = []
    for name, child in _children(module):
        here += [_renamed(f, f"{name}.{f.name}".rstrip(".")) for f in _jax("", child, None) or _inside(child)]
    return here


def _renamed(found: Found | Left, name: str) -> Found | Left:
    if isinstance(found, Left):
        return Left(name, found.reason)
    return Found(name, found.kind, found.stack, found.reference, found.notes, found.assumed)


def _children(module: Any) -> list[tuple[str, Any]]:
    """Modules in the fields of a module, in lists and dictionaries too."""
    fields = vars(module) if hasattr(module, "__dict__") else {}
    items: list[tuple[str, Any]] = []
    for name, value in fields.items():
        inner: Any = ()
        if isinstance(value, Mapping):
            inner = value.items()
        elif isinstance(value, (list, tuple)):
            inner = enumerate(value)
        items += [(f"{name}.{key}", one) for key, one in inner] if inner else [(name, value)]
    wanted = ("equinox", "flax")
    return [(n, v) for n, v in items if any(k.__module__.startswith(wanted) for k in type(v).__mro__)]


def _jax(name: str, module: Any, tree: Any) -> Here:
    """A cell, an ``RNN`` around one, or a ``Bidirectional`` of two; empty for anything else."""
    kind = type(module).__name__
    try:
        if kind == "Bidirectional" and _is_flax(module):
            return [_pair(name, module, tree)]
        reverse = kind == "RNN" and _is_flax(module) and bool(module.reverse)
        parts = _cell(module, tree)
        if parts is None:
            return []
        layout, own, activations = parts
        return [from_arrays(name, layout, [own], [read(layout, own)], activations, reverse=reverse)]
    except UnsupportedError as error:
        return [Left(name, str(error))]


def _is_flax(module: Any) -> bool:
    return type(module).__module__ in ("flax.nnx.nn.recurrent", "flax.linen.recurrent")


def _pair(name: str, module: Any, tree: Any) -> Found:
    merge = getattr(module.merge_fn, "__name__", "")
    if merge != "_concatenate":
        raise UnsupportedError(f"merge_fn must concatenate, as Gatewise's layers do, got {merge or module.merge_fn!r}")
    sides = ((side, None if tree is None else tree[side]) for side in ("forward_rnn", "backward_rnn"))
    first, second = (_cell(getattr(module, side), own) for side, own in sides)
    if first is None or second is None:
        raise UnsupportedError("both directions must be cells that Gatewise computes")
    (layout, one, used), (other_layout, other, other_used) = first, second
    if (layout, used) != (other_layout, other_used):
        raise UnsupportedError("both directions must have the same formula and activations")
    return from_arrays(name, layout, [one, other], [read(layout, own) for own in (one, other)], used)


def _cell(module: Any, tree: Any) -> tuple[Layout, Own, Any] | None:
    """Layout, arrays and activations of a cell, or of the one in an ``RNN``."""
    if type(module).__name__ == "RNN" and _is_flax(module):
        module, tree = module.cell, None if tree is None else tree.get("cell", tree)
    found = layout_of(module)
    if found is None:
        return None
    layout, activations = found
    if layout.framework == "flax.linen":
        if tree is None:
            raise InputError(f"{type(module).__name__} of linen holds no weights: give its variables too")
        named = flattened(tree)
        return layout, {a.name: named[a.name] for a in layout.arrays if a.name in named}, activations
    own = {a.name: _at(module, a.name) for a in layout.arrays}
    return layout, {n: as_tensor(v) for n, v in own.items() if v is not None}, activations


def _at(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module[...] if hasattr(module, "get_value") else module
