"""What happens around a layer in use: threads, forks, interrupts, weights that change, inputs of any kind."""

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparing import threads
from torch import Tensor, nn

import gatewise as gw


def child(code: str, **environment: str) -> "subprocess.Popen[str]":
    """A Python of its own, which finds the code that is tested here."""
    path = os.pathsep.join([str(Path(gw.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    given = {**os.environ, "PYTHONPATH": path, **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], env=given, stdout=pipe, stderr=pipe, text=True)


def finished(process: "subprocess.Popen[str]") -> str:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()  # of one that has ended, nothing happens
    assert process.returncode == 0, err
    return out.strip()


# Threads and processes.


def test_many_python_threads_call_one_layer() -> None:
    layer, inputs = gw.LSTM(4, 33, 2, bidirectional=True), [torch.randn(6, b, 4) for b in (1, 3, 17)]
    with torch.no_grad():
        expected = [layer(x)[0] for x in inputs]
        wrong: list[int] = []

        def work() -> None:
            with torch.no_grad():  # which is a thread's own
                wrong.extend(k for k in (0, 1, 2) * 5 if not torch.equal(layer(inputs[k])[0], expected[k]))

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


def test_the_number_of_threads_may_change_between_calls() -> None:
    """Also to more than there are cores."""
    layer, x = gw.GRU(4, 100), torch.randn(5, 17, 4)
    expected = layer(x)[0]
    for count in (1, 2, 4 * (os.cpu_count() or 1), 1, 3):
        with threads(count):
            assert torch.equal(layer(x)[0], expected)


TEAMS = """
import torch, gatewise as gw
torch.manual_seed(0)
layer, x = gw.GRU(4, 100), torch.randn(5, 17, 4)
torch.set_num_threads(1)
expected, few = layer(x)[0], layer(x[:, :2])[0]
torch.set_num_threads(6)
for _ in range(20):
    assert torch.equal(layer(x)[0], expected) and torch.equal(layer(x[:, :2])[0], few)
    layer(x)[0].sum().backward()
print("done")
"""


@pytest.mark.parametrize("environment", [{"OMP_THREAD_LIMIT": "2"}, {"OMP_DYNAMIC": "true"}], ids=str)
def test_fewer_threads_than_asked_for(environment: dict[str, str]) -> None:
    assert finished(child(TEAMS, **environment)) == "done"


LOADER = """
import torch, gatewise as gw
torch.set_num_threads(2)
layer, x = gw.GRU(4, 100), torch.randn(6, 5, 17, 4)
with torch.no_grad():
    expected = [layer(row)[0] for row in x]  # starts the threads that a fork leaves behind

class Encoded(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)

    def __getitem__(self, k):
        with torch.no_grad():
            return layer(x[k])[0]

loader = torch.utils.data.DataLoader(Encoded(), num_workers=2, multiprocessing_context="fork", batch_size=None)
for found, own in zip(loader, expected, strict=True):
    assert torch.equal(found, own)
assert torch.equal(layer(x[0])[0], expected[0])
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_workers_of_a_data_loader_after_use() -> None:
    assert finished(child(LOADER)) == "done"


INTERRUPTED = """
import signal, torch, gatewise as gw
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs are started without
layer, x, long = gw.GRU(4, 64), torch.randn(5, 3, 4), torch.randn(15000, 17, 4)
expected = layer(x)[0]
layer(long[:10])
stopped = False
print("ready", flush=True)
try:
    while True:
        layer(long)[0].sum().backward()
except KeyboardInterrupt:
    stopped = True
layer.zero_grad()
again = layer(x)[0]
again.sum().backward()
assert stopped and torch.equal(again, expected) and layer.weight_hh_l0.grad.isfinite().all()
print("done")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent in another way")
def test_ctrl_c_during_a_long_call_leaves_the_process_usable() -> None:
    process = child(INTERRUPTED)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)  # by now it is inside of a call
    process.send_signal(signal.SIGINT)
    assert finished(process) == "done"


# Weights.


def fused_step(layer: nn.Module) -> None:
    layer(torch.randn(4, 2, 5))[0].square().sum().backward()
    torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True).step()


def numpy_alias(layer: nn.Module) -> None:
    weight: Any = layer.weight_hh_l0
    alias: np.ndarray = weight.detach().numpy()
    alias *= 2


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "fused AdamW": fused_step,
    ".data": lambda layer: [p.data.mul_(2) for p in layer.parameters()],
    "NumPy": numpy_alias,
    "vector": lambda layer: nn.utils.vector_to_parameters(
        2 * nn.utils.parameters_to_vector(layer.parameters()).detach(), layer.parameters()
    ),
    "load_state_dict": lambda layer: layer.load_state_dict(gw.GRU(5, 7).state_dict()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_weights_changed_between_calls_count(change: Callable[[nn.Module], object]) -> None:
    layer, x = gw.GRU(5, 7), torch.randn(4, 2, 5)
    before = layer(x)[0]
    change(layer)
    after = layer(x)[0]
    assert not torch.equal(after, before)
    assert torch.equal(after, copy.deepcopy(layer)(x)[0])
    with gw.backend("eager"):
        torch.testing.assert_close(layer(x)[0], after)


# Inputs.

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "view of a larger one": lambda x: torch.cat([x, x], 2)[:, :, :5],
    "every second": lambda x: x.repeat_interleave(2, 0)[::2],
    "turned": lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "offset": lambda x: torch.cat([x.new_zeros(3), x.flatten()])[3:].view(x.shape),
    "expanded": lambda x: x[:, :1].expand(-1, 3, -1),
    "requires grad": lambda x: x.clone().requires_grad_(),
    "computed": lambda x: (2 * x.clone().requires_grad_()).relu(),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_inputs_and_states_in_any_layout(view: Callable[[Tensor], Tensor]) -> None:
    layer = gw.LSTM(5, 5, bidirectional=True)
    x, state = view(torch.randn(4, 3, 5)), view(torch.randn(2, 3, 5))
    y, (h, c) = layer(x, (state, state))
    plain, (h_plain, c_plain) = layer(x.detach().clone(), (state.detach().clone(), state.detach().clone()))
    assert torch.equal(y, plain)
    assert torch.equal(h, h_plain)
    assert torch.equal(c, c_plain)


def test_nothing_that_is_given_is_written() -> None:
    layer, x, h = gw.GRU(5, 7, 2), torch.randn(4, 3, 5), torch.randn(2, 3, 7)
    given = [t.clone() for t in (x, h, *layer.parameters())]
    layer(x, h)[0].sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(given, (x, h, *layer.parameters()), strict=True))


@pytest.mark.parametrize("make", [gw.GRU, gw.LSTM, lambda *a: gw.RNN(*a, nonlinearity="relu")])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_pass_as_in_eager(make: Callable[..., nn.Module], value: float) -> None:
    layer, x = make(5, 7), torch.randn(6, 3, 5)
    x[2, 1, 3] = value
    y, _ = layer(x)
    with gw.backend("eager"):
        expected, _ = layer(x)
    torch.testing.assert_close(y, expected, equal_nan=True)
    assert y[:, [0, 2]].isfinite().all()


@pytest.mark.skipif(not os.environ.get("GATEWISE_LARGE"), reason="takes 9 GB of memory: set GATEWISE_LARGE=1")
def test_more_than_2_to_the_31_elements() -> None:
    """The end of an output of 2³¹ + 2¹⁶ numbers is that of the last steps alone, from the state before them."""
    rows, hidden = 1024, 64
    steps = 2**31 // (rows * hidden) + 1
    layer, x = gw.GRU(1, hidden), torch.randn(steps, rows, 1)
    with torch.no_grad():
        y, final = layer(x)
        assert y.numel() > 2**31
        tail, last = layer(x[-3:], y[-4][None].clone())
    assert torch.equal(y[-3:], tail)
    assert torch.equal(final, last)


def test_the_default_device_may_be_another() -> None:
    """Where memory of our own were made on it, native code would read addresses of another device, or none."""
    layer, x = gw.GRU(4, 9, 2), torch.randn(3, 2, 4)
    packed = nn.utils.rnn.pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    weights = list(layer.parameters())

    def results() -> list[Tensor]:
        y = layer(x, lengths=[3, 1])[0]
        stream = layer.stream(2)
        steps = [stream.step(frame) for frame in x]
        gradients = torch.autograd.grad((layer(x)[0] * y).sum(), weights)
        return [y, *steps, layer(packed)[0].data, *gradients, *layer.state_dict().values()]

    expected = results()
    with torch.device("meta"):
        found = results()
        replaced = gw.replace(nn.GRU(3, 4, device="cpu")).model
    assert isinstance(replaced, gw.GRU)
    for mine, other in zip(found, expected, strict=True):
        assert mine.device.type == "cpu"
        assert torch.equal(mine, other)
