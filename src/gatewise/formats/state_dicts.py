"""Layers of torch and of Gatewise by the names of their parameters, under any prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gatewise import cells
from gatewise.errors import InputError, UnsupportedError
from gatewise.formats.blocks import Blocks, read
from gatewise.formats.compare import Problem, Reference, Results, run
from gatewise.formats.formulas import Activation, Activations, cell_of, made, recognised, usual
from gatewise.formats.found import Found, Here, Left
from gatewise.formats.layouts import LAYOUTS
from gatewise.formats.stack import Stack
from gatewise.nn import GRUCell, Recurrent
from gatewise.nn.formula import FORMULA, formula_key

Own = dict[str, Tensor]
Nonlinearity = str | Mapping[str, str] | None
"""Of ``nn.RNN``: of all, of each by its prefix, or nothing that is known."""
_NAME = re.compile(r"(?:(?P<prefix>.+)\.)?weight_ih(?P<layer>_l\d+(?:_reverse)?)?")
_KINDS = {3: "GRU", 4: "LSTM", 1: "RNN"}
"""By the number of gates."""
UNSAID_ORDER = "batch_first is not stored: False is taken"


def find(tensors: Mapping[str, Tensor], nonlinearity: Nonlinearity = None) -> Here:
    """The layers with torch's names, in the order of their prefixes in the file.

    Args:
        tensors: by name. nonlinearity: of ``nn.RNN``, which its weights do not say; or that of each by its prefix; tanh
            is assumed where there is none.

    Raises:
        InputError: when a layer is not whole, or its shapes contradict each other.
    """
    prefixes: dict[str, bool] = {}
    for name in tensors:
        match = _NAME.fullmatch(name)
        if match:
            prefixes.setdefault(match["prefix"] or "", match["layer"] is None)
    here: Here = []
    for prefix, step in prefixes.items():
        own = _under(tensors, prefix)
        if "bias" in own or "bias_n" in own:
            continue  # Equinox
        given = nonlinearity.get(prefix) if isinstance(nonlinearity, Mapping) else nonlinearity
        try:
            here.append(found_under(prefix, step, own, given))
        except UnsupportedError as error:
            here.append(Left(prefix, str(error)))
    return here


def _under(tensors: Mapping[str, Tensor], prefix: str) -> Own:
    """The tensors right below a prefix."""
    lead = f"{prefix}." if prefix else ""
    return {n[len(lead) :]: t for n, t in tensors.items() if n.startswith(lead) and "." not in n[len(lead) :]}


def found_under(prefix: str, step: bool, own: Own, nonlinearity: str | None) -> Found:
    """The layer with these tensors.

    Args:
        prefix: of their names. step: whether it is a single step. own: by their names without the prefix.
        nonlinearity: of a plain network; tanh is assumed where it is None.

    Raises:
        InputError: when it is not whole, or its shapes contradict each other.
    """
    if any(tensor.dtype == torch.int8 for tensor in own.values()):
        raise UnsupportedError("its weights are in int8, which no format here takes; convert it as it was before")
    shown = prefix or "(unnamed)"
    suffixes = [""] if step else _suffixes(own, shown)
    arrays = [_arrays(own, suffix) for suffix in suffixes]
    place = ""
    keys = [n for n in own if FORMULA.fullmatch(n)]
    try:
        if keys:
            return _of_gatewise(prefix, step, own, keys, suffixes, arrays)
        kind = _kind(arrays[0])
        layout = LAYOUTS[f"torch {kind}" + (" proj_size" if "weight_hr" in arrays[0] else "")]
        directions: tuple[Blocks, ...] = ()
        for suffix, one in zip(suffixes, arrays, strict=True):
            place = f", arrays that end in {suffix}" if suffix else ""
            directions += (read(layout, one),)
    except UnsupportedError:
        raise
    except InputError as error:
        raise InputError(f"layer {shown}{place}: {error}") from None
    _check_all_read(own, suffixes, layout.arrays, shown)
    used = (Activation(nonlinearity or "tanh"),) if kind == "RNN" else usual(layout.formula)
    both = any(s.endswith("_reverse") for s in suffixes)
    stack = Stack(layout.formula, used, directions, bidirectional=both, step=step, batch_first=False)
    plain = (f"the nonlinearity is not stored: {nonlinearity or 'tanh'} is taken",) if kind == "RNN" else ()
    notes = (*plain, *(() if step else (UNSAID_ORDER,)))
    assumed = plain if nonlinearity is None else ()
    return Found(prefix, f"torch.nn.{kind}{'Cell' * step}", stack, torch_reference(stack, kind, own), notes, assumed)


def _suffixes(own: Own, shown: str) -> list[str]:
    """``_l0``, ``_l0_reverse``, ``_l1`` …, in the order of the states."""
    found = [n.removeprefix("weight_ih") for n in own if n.startswith("weight_ih_l")]
    ordered = sorted(found, key=lambda s: (int(s[2:].removesuffix("_reverse")), s.endswith("_reverse")))
    both = any(s.endswith("_reverse") for s in found)
    count = len(found) // (2 if both else 1)
    expected = [f"_l{k}{d}" for k in range(count) for d in (["", "_reverse"] if both else [""])]
    if ordered != expected:
        raise InputError(f"layer {shown}: it has weight_ih of {', '.join(ordered)}, expected {', '.join(expected)}")
    return ordered


def _arrays(own: Own, suffix: str) -> Own:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_diagonal")
    return {name: own[name + suffix] for name in names if name + suffix in own}


def _kind(arrays: Own) -> str:
    """GRU, LSTM or RNN, by the shape of the matrices."""
    if "weight_hh" not in arrays:
        raise InputError("weight_hh is missing, expected one beside weight_ih")
    rows, state = arrays["weight_ih"], arrays["weight_hr" if "weight_hr" in arrays else "weight_hh"]
    units = state.shape[-1] if state.dim() == 2 else 0
    gates = rows.shape[0] // units if units and rows.dim() == 2 and rows.shape[0] % units == 0 else 0
    if gates not in _KINDS or arrays["weight_hh"].shape[0] != rows.shape[0]:
        shapes = ", ".join(f"{n} {tuple(arrays[n].shape)}" for n in ("weight_ih", "weight_hh"))
        raise InputError(f"{shapes} do not fit a GRU (3 gates), an LSTM (4) or an RNN (1)")
    return _KINDS[gates]


def _check_all_read(own: Own, suffixes: list[str], arrays: Any, shown: str) -> None:
    """Nothing beside the weights belongs to them: a bias that nobody reads would be lost."""
    known = {a.name + suffix for a in arrays for suffix in suffixes}
    pattern = re.compile(r"(weight|bias)_(ih|hh|hr|diagonal)(_l\d+(_reverse)?)?")
    left = [n for n in own if pattern.fullmatch(n) and n not in known]
    if left:
        raise InputError(f"layer {shown}: {', '.join(left)} must belong to the layer, but it has no place for them")


def torch_reference(stack: Stack, kind: str, own: Own) -> Reference:
    """torch.nn's own layer with the tensors under their own names, in float64."""

    def run_torch(given: Problem) -> Results:
        options: dict[str, Any] = {"bias": stack.bias, "device": "cpu", "dtype": torch.float64}
        if kind == "RNN":
            options["nonlinearity"] = str(stack.activations[0])
        if stack.step:
            cell = getattr(nn, f"{kind}Cell")(stack.input_size, stack.hidden_size, **options)
            return _of_cell(_loaded(cell, own), given)
        options |= {"num_layers": stack.num_layers, "bidirectional": stack.bidirectional, "batch_first": True}
        if stack.proj_size:
            options["proj_size"] = stack.proj_size
        layer = _loaded(getattr(nn, kind)(stack.input_size, stack.hidden_size, **options), own)
        hx = tuple(torch.from_numpy(s) for s in given.initial)
        with torch.no_grad():
            y, final = layer(torch.from_numpy(given.x), hx if len(hx) > 1 else hx[0])
        finals = final if isinstance(final, tuple) else (final,)
        return Results(y.numpy(), tuple(f.numpy() for f in finals))

    return Reference(f"torch {torch.__version__.partition('+')[0]}", run_torch)


def _loaded(layer: nn.Module, own: Own) -> nn.Module:
    layer.load_state_dict({name: own[name].double() for name in layer.state_dict()})
    return layer.eval()


def _of_cell(cell: nn.Module, given: Problem) -> Results:
    states = tuple(torch.from_numpy(s[0]) for s in given.initial)
    outputs = []
    with torch.no_grad():
        for x in torch.from_numpy(given.x).unbind(1):
            new = cell(x, states if len(states) > 1 else states[0])
            states = new if isinstance(new, tuple) else (new,)
            outputs.append(states[0])
    return Results(torch.stack(outputs, 1).numpy(), tuple(s.unsqueeze(0).numpy() for s in states))


def _of_gatewise(prefix: str, step: bool, own: Own, keys: list[str], suffixes: list[str], arrays: list[Own]) -> Found:
    """A layer of a formula that torch has not: its name is an entry of the state_dict."""
    name = keys[0].removeprefix("formula_").rpartition("_")[0]
    formula, activations, layout = _formula_of(keys[0], name)
    directions: tuple[Blocks, ...] = tuple(read(LAYOUTS[layout], one) for one in arrays)
    starts = [own[f"h_0{suffix}"] for suffix in suffixes if f"h_0{suffix}" in own]
    states = len(cell_of(formula).states)
    if starts and (len(starts) != len(suffixes) or any(s.dim() != 2 or s.shape[0] != states for s in starts)):
        raise InputError(f"h_0 must have {states} rows for each of its {len(suffixes)} directions")
    if len({s.shape for s in starts}) > 1:
        raise InputError("h_0 must have the same width in all directions")
    initial = tuple(torch.stack([s[k] for s in starts]) for k in range(states)) if starts else None
    both = any(s.endswith("_reverse") for s in suffixes)
    stack = Stack(formula, activations, directions, bidirectional=both, step=step, batch_first=False, initial=initial)
    notes = () if step else (UNSAID_ORDER,)
    return Found(prefix, f"gatewise {name}", stack, gatewise_reference(stack, name, own), notes)


def _formula_of(key: str, name: str) -> tuple[str, Activations, str]:
    """The formula, its activations, and the layout of the layer that has this entry."""
    cell = next((c for c in [*map(cells.get, cells.names()), *made()] if formula_key(c) == key), None)
    renews = cell is not None and cell.body() == cells.gru_renew.body()
    found = None if cell is None else recognised(cells.gru if renews else cell)
    if found is None:
        raise UnsupportedError(f"its cell {name} belongs to Gatewise alone: no other format has its formula")
    return *found, f"gatewise {'gru_renew' if renews else found[0]}"


def gatewise_reference(stack: Stack, name: str, own: Own) -> Reference:
    """Gatewise's layer that loads the tensors under their own names."""

    def run_loaded(given: Problem) -> Results:
        renews = name == cells.gru_renew.name
        cell = cells.gru_renew if renews else cell_of(stack.formula, stack.activations)
        sizes: dict[str, Any] = {"bias": stack.bias, "dtype": torch.float64}
        if stack.step:
            layer: Any = GRUCell(stack.input_size, stack.hidden_size, **sizes)
        else:
            sizes |= {"num_layers": stack.num_layers, "bidirectional": stack.bidirectional, "batch_first": True}
            sizes["learn_initial_state"] = stack.initial is not None
            layer = Recurrent(cell, stack.input_size, stack.hidden_size, **sizes)
        layer.load_state_dict({n: own[n].double() for n in layer.state_dict()})
        return run(layer, given)

    return Reference(f"Gatewise's layer of the cell {name}", run_loaded)
