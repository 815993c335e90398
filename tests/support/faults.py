"""Definitions of cells that have a fault, and the sentence that each must get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatewise import CellError, cell


class Faults:
    """A collection of them: ``@FAULTS("words of", "the sentence")`` above a cell's function adds it."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def __call__(self, *words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.found.append(pytest.param(function, words, id=function.__name__))
            return function

        return register

    @property
    def each(self) -> pytest.MarkDecorator:
        return pytest.mark.parametrize(("function", "words"), self.found)


def check(function: Callable[..., Any], words: tuple[str, ...]) -> None:
    """The definition gets one sentence, which names the cell and holds all the words."""
    with pytest.raises(CellError) as caught:
        cell(function)
    message = str(caught.value)
    assert message.startswith(f"cell {function.__name__}: ")
    for word in words:
        assert word in message
    assert "\n" not in message
