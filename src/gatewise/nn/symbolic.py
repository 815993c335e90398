"""A layer in a graph of ``torch.fx.symbolic_trace``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.fx import Proxy


def as_leaf(layer: nn.Module, input: Proxy, inputs: Mapping[str, Any], **arguments: Any) -> Any:
    """One node that calls the layer, as torch.nn's layers are: its code looks at sizes, which a graph does not have.

    Raises:
        RuntimeError: where the layer is the whole model that is traced.
    """
    tracer: Any = input.tracer
    path = tracer.path_of_module(layer)
    if not path:
        name = type(layer).__name__
        raise RuntimeError(
            f"torch.fx.symbolic_trace traces a model around a layer, got a {name} alone; put it into a module"
        )
    given = {name: value for name, value in arguments.items() if value is not None}
    return tracer.create_proxy("call_module", path, (input,), {**given, **inputs})
