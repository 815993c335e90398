"""Variables are found as ``os.environ`` finds them, whatever Python it is."""

import os

import pytest

from gatewise.backends.environment import variable

NAME = "GATEWISE_TEST_VARIABLE"


@pytest.mark.parametrize("value", ["avx2", "", "größer"])
def test_what_is_set_now_is_found(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert variable(NAME) == ""
    monkeypatch.setenv(NAME, value)
    assert variable(NAME) == value == os.environ[NAME]


def test_another_mapping_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {NAME: "sse2"})
    assert variable(NAME) == "sse2"
    assert variable("NO_" + NAME) == ""
