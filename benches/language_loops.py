"""Ways to write one text with a network: ours, a loop over torch's layer, a loop over ONNX Runtime's GRU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from benches.shapes import STEP
from gatewise.tasks.language import LanguageModel
from gatewise.tasks.language.heads import Full
from gatewise.tasks.language.sampling import Sampler, Sampling

SEED = 1


def loops(model: LanguageModel, length: int) -> dict[str, Callable[[], str]]:
    """Each writes so many tokens by a reset-after GRU of one layer, and draws them alike."""
    found: dict[str, Callable[[], str]] = {
        "gatewise": lambda: model.generate("", length, seed=SEED),
        "torch.nn.GRU": lambda: _torch(model, length),
    }
    if all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime")):
        found["ONNX Runtime"] = _onnx(model, length)
    with torch.no_grad():
        head = model.network.head
        assert isinstance(head, Full)
        head.bias[-1] = -100.0  # no text is to end early
    return found


def _parts(model: LanguageModel) -> tuple[nn.GRU, torch.Tensor, torch.Tensor, torch.Tensor]:
    """torch's layer with the network's weights, the embedding's, and those of the prediction."""
    network = model.network
    layer: Any = network.layers[0]
    rival = nn.GRU(layer.input_size, layer.hidden_size)
    own = dict(layer.named_parameters())
    with torch.no_grad():
        for name, parameter in rival.named_parameters():
            parameter.zero_()
            if name in own:
                parameter[-len(own[name]) :] = own[name]
    head = network.head
    assert isinstance(head, Full)
    assert head.weight is not None
    return rival, network.embedding.weight.detach(), head.weight.detach(), head.bias.detach()


def _sampler(model: LanguageModel) -> Sampler:
    return Sampler(Sampling(), SEED, [], 0, model.tokenizer.size)


def _torch(model: LanguageModel, length: int) -> str:
    rival, table, weight, bias = _parts(model)
    sampler, token, state, written = _sampler(model), model.tokenizer.end, None, []
    with torch.inference_mode():
        for _ in range(length):
            y, state = rival(table[token].view(1, 1, -1), state)
            logits = torch.nn.functional.linear(y[0, 0], weight, bias)
            token = sampler(logits.numpy())
            written.append(token)
    return model.tokenizer.decode(written)


def _onnx(model: LanguageModel, length: int) -> Callable[[], str]:
    """The session is made once; the embedding and the prediction are NumPy's."""
    from benches.peers.onnx_runtime import Bound, session

    rival, *rest = _parts(model)
    table, weight, bias = (part.numpy() for part in rest)
    own = {name: p.detach() for name, p in rival.named_parameters()}
    x = torch.zeros(1, 1, rival.input_size)
    sizes = (rival.input_size, rival.hidden_size)
    problem: Any = SimpleNamespace(x=x, sizes=sizes, parameters=own, kind=STEP)
    made = session(problem, True, torch.get_num_threads())
    row = np.zeros((1, 1, sizes[0]), np.float32)
    states = [np.zeros((1, 1, sizes[1]), np.float32) for _ in range(2)]
    turns = [Bound(made, {"X": row, "h": states[k]}, {"Y_h": states[1 - k]}) for k in range(2)]

    def write() -> str:
        sampler, token, written = _sampler(model), model.tokenizer.end, []
        states[0][:] = 0
        for step in range(length):
            row[0, 0] = table[token]
            turns[step % 2].run()
            token = sampler(weight @ states[1 - step % 2][0, 0] + bias)
            written.append(token)
        return model.tokenizer.decode(written)

    return write
