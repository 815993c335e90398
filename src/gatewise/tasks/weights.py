"""The weights of a run, put into its network: all of it checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gatewise.nn.quantise import KINDS, narrowed_in_place, quantised_to
from gatewise.tasks.errors import InputError
from gatewise.tasks.folder import CONFIG, WEIGHTS, read_json, read_tensors

QUANTISED = "quantized"
"""The entry of ``config.json`` that says what the weights of recurrent layers are in, where that is not float32."""


def precision(module: nn.Module | None) -> dict[str, str]:
    """That entry, if there is one."""
    found = "" if module is None else quantised_to(module)
    return {QUANTISED: found} if found else {}


def refuse_quantised(module: nn.Module, what: str) -> None:
    """Raises InputError for a network whose recurrent layers were quantised, where ``what`` needs them in float32."""
    if quantised_to(module):
        raise InputError(f"{what}: got a quantised model, expected it as it was before `gatewise quantize`")


def loaded(build: Callable[[], nn.Module], folder: Path) -> nn.Module:
    """The network in evaluation mode, with the weights of a run's directory.

    Raises:
        InputError: when they are missing or damaged, do not fit the network, or are not finite.
    """
    path = folder / WEIGHTS
    tensors, _ = read_tensors(path)
    foreign = InputError(f"{path} is foreign: its weights do not fit {folder / CONFIG}")
    with torch.device("meta"):  # a network that is larger than its weights is found before it takes any memory
        needed = sum(p.numel() for p in build().parameters())
    if needed > sum(t.numel() for t in tensors.values()):
        raise foreign
    module, to = build(), read_json(folder / CONFIG).get(QUANTISED)
    if to is not None:
        if to not in KINDS:
            raise InputError(f"{folder / CONFIG} is damaged: {QUANTISED!r} must be {' or '.join(KINDS)}, got {to!r}")
        narrowed_in_place(module, to)
    expected = {name: t.dtype for name, t in module.state_dict().items()}
    try:
        module.load_state_dict(tensors)
    except RuntimeError:
        raise foreign from None
    for name in tensors.keys() & expected.keys():  # an earlier form of a layer's formula may be among the others
        tensor = tensors[name]
        if tensor.dtype != expected[name]:
            raise InputError(f"{path}: {name} must be of {expected[name]}, got {tensor.dtype}")
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{path}: {name} must be finite, got infinity or not-a-number")
    return module.eval()
