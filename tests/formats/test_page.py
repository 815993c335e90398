"""docs/formats.md: its table is the code's, and its sessions run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import gatewise as gw
from benches import format_tables

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
BLOCK = re.compile(r"^```python (\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_table_is_the_codes() -> None:
    assert format_tables.PAGE.read_text() == format_tables.page()


@pytest.mark.parametrize(("package", "text"), BLOCK.findall(format_tables.PAGE.read_text()))
def test_sessions_with_a_framework(package: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"gw": gw}
    exec(compile(text, package, "exec"), names)
