"""Where a training runs: what may be asked for, what a launcher says, who is the first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gatewise.tasks.errors import InputError
from gatewise.tasks.machines import LAUNCHED, Machines, Place, is_first, launched

MEETING = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*LAUNCHED, "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def launch(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    say(monkeypatch, **Place(*numbers).environment(MEETING))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"precision": "16"}, "precision must be one of 32-true, bf16-mixed, got '16'"),
        ({"accelerator": "tpu"}, "accelerator must be one of cpu, cuda, auto, got 'tpu'"),
        ({"devices": 0}, "devices must be an integer of at least 1, got 0"),
        ({"devices": 2000}, "devices must be an integer of at most "),
        ({"num_nodes": True}, "num_nodes must be an integer of at least 1, got True"),
        (
            {"num_nodes": 2},
            "MASTER_ADDR is missing from the environment: with num_nodes 2 and no launcher every host needs",
        ),
    ],
)
def test_what_cannot_be_gets_a_sentence(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Machines(**how)
    assert str(caught.value).startswith(sentence)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(InputError, match="accelerator: torch finds no CUDA device here, got 'cuda'"):
        Machines(accelerator="cuda")
    assert Machines(accelerator="auto").device_type == "cpu"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("NODE_RANK", "", "NODE_RANK is missing from the environment"),
        ("NODE_RANK", "2", "NODE_RANK in the environment must be an integer from 0 to 1, got '2'"),
        ("NODE_RANK", "-1", "NODE_RANK in the environment must be an integer from 0 to 1, got '-1'"),
        ("MASTER_PORT", "http", "MASTER_PORT in the environment must be an integer from 0 to 65535, got 'http'"),
    ],
)
def test_hosts_without_a_launcher_need_their_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    say(monkeypatch, **MEETING, NODE_RANK=1)
    assert Machines(num_nodes=2, devices=3).places() == [Place(3, 6, 0, 3), Place(4, 6, 1, 3), Place(5, 6, 2, 3)]
    say(monkeypatch, **{name: value})
    with pytest.raises(InputError, match=sentence):
        Machines(num_nodes=2)


def test_the_first_of_several_hosts_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, **MEETING, NODE_RANK=1)
    assert is_first()
    assert is_first(Machines())
    assert not is_first(Machines(num_nodes=2))
    say(monkeypatch, NODE_RANK=0)
    assert is_first(Machines(num_nodes=2))


def test_a_launcher_says_who_is_first_and_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    launch(monkeypatch, 3, 6, 1, 2)
    place = launched()
    assert place == Place(3, 6, 1, 2)
    assert place.num_nodes == 3
    assert not is_first()
    launch(monkeypatch, 0, 6, 0, 2)
    assert is_first()
    assert Machines() != Machines(devices=2, num_nodes=3)
    with pytest.raises(InputError, match="devices is 2, as the launcher of this process says, got 4"):
        Machines(devices=4)
    with pytest.raises(InputError, match="num_nodes is 3, as the launcher of this process says, got 2"):
        Machines(num_nodes=2)


@pytest.mark.parametrize("numbers", [(0, 3, 0, 2), (2, 2, 0, 1), (0, 2, 2, 2), (0, 0, 0, 0)])
def test_a_launcher_that_contradicts_itself(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, int, int, int]
) -> None:
    launch(monkeypatch, *numbers)
    with pytest.raises(InputError, match=f"the launcher must give every host the same number .* RANK={numbers[0]},"):
        Machines()
