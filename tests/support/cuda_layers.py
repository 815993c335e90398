"""Layers on the cuda backend against eager: on a card, or on the emulation in its place."""

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
    """Assert that nothing is wrong by more than the limit, as ‖found − truth‖ / ‖truth‖."""
    for found, truth in zip(trained(layer, x, "cuda", **given), trained(layer, x, "eager", **given), strict=True):
        assert found.dtype == truth.dtype
        assert (found.float() - truth.float()).norm() <= limit * truth.float().norm()
