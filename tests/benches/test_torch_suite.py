"""The command that runs torch's own tests on our classes, on a small file in place of torch's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benches import torch_suite

SUITE = """
import unittest

import torch
from torch import nn


class TestSmall(unittest.TestCase):
    def test_gru_runs(self):
        self.assertEqual(nn.GRU(3, 4)(torch.ones(2, 1, 3))[0].shape, (2, 1, 4))

    def test_uses_one(self):
        self.assertIsInstance(nn.LSTM(3, 4), nn.RNNBase)

    def test_RNN_nonlinearity(self):
        with self.assertRaisesRegex(ValueError, "Unknown nonlinearity"):
            nn.RNN(3, 4, nonlinearity="sin")

    def test_rnn_fails_with_torchs_too(self):
        self.fail("as ever")

    def test_nothing_of_ours(self):
        self.fail("never run")
"""


def test_what_only_our_classes_fail_needs_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_small.py").write_text(SUITE)
    monkeypatch.setattr(sys, "argv", ["torch_suite", "--tests", str(tmp_path), "--files", "test_small.py"])
    monkeypatch.setenv("PYTHONPATH", str(Path(torch_suite.__file__).parent.parent), prepend=":")
    with pytest.raises(SystemExit) as caught:
        torch_suite.main()
    assert caught.value.code == 1
    said = capsys.readouterr().out
    assert said.startswith("test_small.py: 4 tests, {'failed': 3, 'passed': 1}")
    assert said.count("UNEXPLAINED") == 1
    assert "TestSmall.test_uses_one: AssertionError" in said
    assert "other mistakes" in said
    assert "as ever" not in said


def test_every_reason_is_a_row_of_the_page() -> None:
    page = (Path(torch_suite.__file__).parent.parent / "docs" / "layers.md").read_text()
    for _, _, reason in torch_suite.EXPLAINED:
        assert f"| {reason} |" in page


def test_the_folder_must_be_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["torch_suite", "--tests", "nowhere"])
    with pytest.raises(SystemExit) as caught:
        torch_suite.main()
    assert caught.value.code == 2
    assert "--tests must be a folder, got nowhere" in capsys.readouterr().err
