"""What a stream refuses, in a sentence and before anything changes."""

import copy
import pickle
from typing import Any

import pytest
import torch
from kernel_cells import ALL

import gatewise as gw

BAD_STEPS = [
    ([1.0], {}, TypeError, r"x must be a tensor of shape \(2, 3\), got list"),
    (torch.zeros(1, 3), {}, ValueError, r"x must have shape \(2, 3\).*got \(1, 3\)"),
    (torch.zeros(2, 4), {}, ValueError, r"x must have shape \(2, 3\).*got \(2, 4\)"),
    (torch.zeros(3), {}, ValueError, r"got \(3,\)"),
    (torch.zeros(2, 3).double(), {}, ValueError, r"x must have the dtype of the stream, torch.float32, got"),
    (torch.zeros(2, 3, device="meta"), {}, RuntimeError, r"x must be on the device of the stream, cpu, got meta"),
    (torch.zeros(2, 3), {"out": 3}, TypeError, r"out must be a tensor of shape \(2, 5\), got int"),
    (torch.zeros(2, 3), {"out": torch.zeros(1, 5)}, ValueError, r"out must have shape \(2, 5\), got \(1, 5\)"),
    (torch.zeros(2, 3), {"out": torch.zeros(2, 5).double()}, ValueError, r"out must have the dtype of the stream"),
    (torch.zeros(2, 3), {"out": torch.zeros(2, 5, device="meta")}, RuntimeError, r"out must be on the device"),
    (torch.zeros(2, 3), {"out": torch.zeros(2, 5, requires_grad=True)}, ValueError, r"must not require a gradient"),
]


@pytest.mark.parametrize(("x", "more", "kind", "words"), BAD_STEPS, ids=range(len(BAD_STEPS)))
def test_bad_steps(x: Any, more: Any, kind: Any, words: str) -> None:
    stream = gw.GRU(3, 5).stream(2)
    with pytest.raises(kind, match=words) as caught:
        stream.step(x, **more)
    assert "\n" not in str(caught.value)
    assert not stream.state.any()


RATE, CODE = torch.zeros(2), torch.zeros(2, 3)
BAD_INPUTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "missing": ({"code": CODE}, TypeError, r"cell driven takes the keyword inputs drive, rate, code, got code"),
    "superfluous": ({"drive": 1, "rate": 1, "code": 1, "speed": 1}, TypeError, r"got drive, rate, code, speed"),
    "list": ({"drive": [0.0], "rate": RATE, "code": CODE}, TypeError, r"drive must be a tensor of shape \(2, 5\), got"),
    "width": (
        {"drive": CODE, "rate": RATE, "code": CODE},
        ValueError,
        r"drive must have shape \(2, 5\), got \(2, 3\)",
    ),
    "rows": (
        {"drive": torch.zeros(2, 5), "rate": torch.zeros(1), "code": CODE},
        ValueError,
        r"rate must have shape \(2, 1\), got \(1,\)",
    ),
    "dtype": (
        {"drive": torch.zeros(2, 5).double(), "rate": RATE, "code": CODE},
        ValueError,
        r"drive must have the dtype of the stream, torch.float32, got torch.float64",
    ),
}


@pytest.mark.parametrize(("given", "kind", "words"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_keyword_inputs(given: dict[str, Any], kind: Any, words: str) -> None:
    stream = gw.Recurrent(ALL["driven"], 3, 5).stream(2)
    with pytest.raises(kind, match=words) as caught:
        stream.step(torch.zeros(2, 3), **given)
    assert "\n" not in str(caught.value)
    assert not torch.stack(list(stream.state)).any()


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        (torch.zeros(1, 1, 5), ValueError, r"state h must have shape \(1, 2, 5\), got \(1, 1, 5\)"),
        (torch.zeros(1, 2, 5).double(), ValueError, r"state h must have the dtype of the stream"),
        ((torch.zeros(1, 2, 5),) * 2, TypeError, r"state must be a tensor of shape \(1, 2, 5\), got 2"),
        ([None], TypeError, r"got NoneType"),
        (3, TypeError, r"got int"),
    ],
)
def test_bad_states(state: Any, kind: Any, words: str) -> None:
    stream = gw.GRU(3, 5).stream(2)
    with pytest.raises(kind, match=words):
        stream.state = state


@pytest.mark.parametrize("rows", [2, -1, [0, 5], 0.5, [[0]], [True], "first"])
def test_bad_rows(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"rows"):
        gw.GRU(3, 5).stream(2).reset(rows)


def test_bad_streams() -> None:
    layer = gw.GRU(3, 5)
    with pytest.raises(ValueError, match=r"threads must be greater than zero, got 0"):
        layer.stream(threads=0)
    with pytest.raises(ValueError, match=r"batch_size must be greater than zero, got 0"):
        layer.stream(0)
    with pytest.raises(TypeError, match=r"batch_size must be an int, got float"):
        layer.stream(1.0)
    with pytest.raises(ValueError, match=r"a bidirectional layer cannot be streamed"):
        gw.GRU(3, 5, bidirectional=True).stream()
    with pytest.raises(ValueError, match=r"on the meta device"):
        gw.GRU(3, 5, device="meta").stream()
    for action in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"cannot be copied or pickled; save its .state"):
            action(layer.stream())
