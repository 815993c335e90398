"""Layers on the cuda backend against float64: on a card, or on the emulation in its place."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

import gatewise as gw


def trained(layer: nn.Module, x: Tensor, backend: str, **given: Any) -> list[Tensor]:
    """The output, and the gradients of all parameters."""
    with gw.backend(backend):
        y, _ = layer(x, **given)
        return [y.detach(), *torch.autograd.grad(y.float().square().sum(), list(layer.parameters()))]


def near(layer: nn.Module, x: Tensor, limit: float, **given: Any) -> None:
    """Assert that nothing is wrong by more than the limit, as ‖found − truth‖ / ‖truth‖. The truth is the reference in
    float64 on the same rounded numbers."""
    wide = {name: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for name, v in given.items()}
    exact = trained(copy.deepcopy(layer).double(), x.double(), "eager", **wide)
    for found, truth, like in zip(trained(layer, x, "cuda", **given), exact, [x, *layer.parameters()], strict=True):
        assert found.dtype == like.dtype
        assert (found.double() - truth).norm() <= limit * truth.norm()
