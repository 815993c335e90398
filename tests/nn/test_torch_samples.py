"""The samples that torch tests its own recurrent modules with, on Gatewise's classes in place of torch's.

They are read in a process of their own: torch's private test module freezes global flags when it is imported.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import gatewise as gw

DTYPE = torch.float64
READ = """
import sys, types, unittest
try:
    import expecttest
except ImportError:  # torch only derives from its TestCase
    sys.modules["expecttest"] = types.ModuleType("expecttest")
    sys.modules["expecttest"].TestCase = unittest.TestCase
import torch
import torch.testing._internal.opinfo.core as core
# All that is taken of the thousands of operators there is one class, which is also here.
sys.modules["torch.testing._internal.common_methods_invocations"] = core
from torch.testing._internal.common_modules import module_db

torch.manual_seed(0)
found = []
for info in module_db:
    name = info.module_cls.__name__
    if name not in {"RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"} or "quant" in info.module_cls.__module__:
        continue
    packed = {"with_packed_sequence": True} if name in {"RNN", "GRU"} else {}
    given = {"device": "cpu", "training": True, "requires_grad": False}
    samples = [(s, "") for s in info.module_inputs_func(info, dtype=torch.float64, **given, **packed)]
    for error in info.module_error_inputs_func(info, dtype=torch.float32, **given):
        samples.append((error.module_error_input, error.error_type.__name__))
    for sample, error in samples:
        build, call = sample.constructor_input, sample.forward_input
        call = None if call is None else (call.args, call.kwargs)
        found.append((name, build.args, build.kwargs, call, error))
torch.save(found, sys.argv[1])
"""
OURS: dict[str, Any] = {
    "RNN": gw.RNN,
    "GRU": lambda *a, **k: gw.GRU(*a, **k, reset_after=True),
    "LSTM": gw.LSTM,
    "RNNCell": gw.RNNCell,
    "GRUCell": lambda *a, **k: gw.GRUCell(*a, **k, reset_after=True),
    "LSTMCell": gw.LSTMCell,
}
# torch's cells take anything as bias; here it must be a bool, so this is refused earlier and by another type.
BIAS = {"relu", "tanh"}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file: Path = tmp_path_factory.mktemp("samples") / "samples.pt"
    result = subprocess.run([sys.executable, "-c", READ, str(file)], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"torch's private samples cannot be read here: {result.stderr.strip().splitlines()[-1]}")
    return torch.load(file, weights_only=False)


@pytest.fixture(params=["auto", "eager"])
def backend(request: pytest.FixtureRequest) -> Any:
    with gw.backend(request.param):
        yield request.param


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else [t for part in value for t in tensors(part)]


def run(layer: nn.Module, args: Any, kwargs: Any) -> list[Tensor]:
    """Outputs and all gradients."""
    inputs = tensors(args)
    for tensor in inputs:
        tensor.requires_grad_().grad = None
    layer.zero_grad()
    values = tensors(layer(*args, **kwargs))
    sum((v * torch.arange(1.0, v.numel() + 1, dtype=v.dtype).reshape(v.shape)).sum() for v in values).backward()
    return [*values, *(t.grad for t in inputs), *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("name", OURS)
def test_values_and_gradients(samples: Any, name: str, backend: str) -> None:
    mine = [sample for sample in samples if sample[0] == name and not sample[-1]]
    assert mine
    for _, args, kwargs, (call_args, call_kwargs), _ in mine:
        theirs, ours = getattr(nn, name)(*args, **kwargs).to(DTYPE), OURS[name](*args, **kwargs).to(DTYPE)
        ours.load_state_dict(theirs.state_dict())
        found = [run(layer, call_args, call_kwargs) for layer in (theirs, ours)]
        for expected, value in zip(*found, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10, msg=lambda m, k=kwargs: f"{k}: {m}")


@pytest.mark.parametrize("name", OURS)
def test_errors(samples: Any, name: str) -> None:
    mine = [sample for sample in samples if sample[0] == name and sample[-1]]
    assert mine
    for _, args, kwargs, call, error in mine:
        wanted = "TypeError" if BIAS & set(map(str, args)) else error
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            OURS[name](*args, **kwargs)(*call[0], **call[1])
        assert caught.type.__name__ == wanted, (args, kwargs, str(caught.value))
        assert "\n" not in str(caught.value)
