"""What a card has no room for is known before a call, and goes to the next way."""

import pytest
import torch
from cards import A100, H200
from kernel_cells import ALL

from gatewise import backends, cells
from gatewise.backends import cuda, cudnn
from gatewise.backends.cuda import gpu as gpus
from gatewise.backends.cuda.layout import Number
from gatewise.backends.cuda.room import problem


@pytest.mark.parametrize(
    ("name", "number", "units"),
    [
        ("gru", Number.BFLOAT16, 2048),
        ("lstm", Number.HALF, 1024),
        ("gru_d", Number.TF32, 512),
        ("mgu", Number.TF32, 33),
    ],
)
def test_what_fits(name: str, number: Number, units: int) -> None:
    assert problem(ALL[name], number, units, H200) == ""


@pytest.mark.parametrize(
    ("name", "number", "units"),
    [("lstm", Number.BFLOAT16, 4096), ("lstm", Number.TF32, 2048), ("gru", Number.HALF, 9000)],
)
def test_what_does_not_fit_gets_a_sentence(name: str, number: Number, units: int) -> None:
    said = problem(ALL[name], number, units, H200)
    assert said.startswith("the cuda backend has no kernel for this size: the weights of ")
    assert said.endswith(f" products of {units} units do not fit on this card")


def test_a_smaller_card_has_less_room() -> None:
    assert problem(ALL["gru"], Number.BFLOAT16, 2048, H200) == "" != problem(ALL["gru"], Number.BFLOAT16, 2048, A100)


class _Here:
    card = H200


class _Older:
    card = A100


def test_a_card_that_nothing_ran_on_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be asked for by name."""
    monkeypatch.setattr(cuda, "_problem", lambda: "")
    monkeypatch.setattr(gpus, "gpu", lambda index: _Older)
    monkeypatch.setattr(cudnn, "enabled", lambda: True)
    given = torch.device("cuda:0"), torch.float16, None, cells.lstm, 64
    with backends.backend("auto"):
        chosen = backends.choose(*given)
    assert chosen.name == "cudnn"
    assert "the cuda backend was not run on a card of this kind (sm_80) yet" in chosen.reason
    with backends.backend("cuda"):
        assert str(backends.choose(*given)) == "cuda/fp16"


@pytest.mark.parametrize(
    ("capability", "said"),
    [
        ((9, 0), "for this card (sm_90a)"),
        ((8, 0), "for this card (sm_80, must be"),
        ((7, 5), "for this card (too old)"),
    ],
)
def test_info_names_the_cards(capability: tuple[int, int], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda k: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda k: "this card")
    assert cuda._cards().startswith("kernels in bf16, fp16, tf32 " + said)


@pytest.mark.parametrize(("units", "names"), [(512, ("cuda", "cuda")), (4096, ("cudnn", "eager"))])
def test_kernels_first_then_cudnn_then_eager(
    units: int, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an H200 whose kernels are proved."""
    monkeypatch.setattr(cuda, "_problem", lambda: "")
    monkeypatch.setattr(gpus, "gpu", lambda index: _Here)
    monkeypatch.setattr(cudnn, "enabled", lambda: True)
    found = [
        backends.choose(torch.device("cuda:0"), torch.float16, None, cell, units) for cell in (cells.lstm, cells.gru)
    ]
    assert tuple(choice.name for choice in found) == names

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(x: torch.Tensor) -> torch.Tensor:
        choice = backends.choose(torch.device("cuda:0"), torch.float16, None, cells.gru, units)
        return x + float(choice.name == names[1])

    with backends.backend("auto"):  # whatever a test before asked for
        assert float(compiled(torch.zeros(1))) == 1
    if names[0] != "cuda":
        assert all("do not fit on this card" in choice.reason for choice in found)
