"""What else a user could run a GRU on, where it is installed: ``pip install gatewise[bench]``.

Each peer gets the layer's weights in its own layout, prepared once, an input that lies as it wants it, and as many
threads as the rest; a time only if its numbers are those of its formula.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import torch

from benches.columns import Column
from benches.problem import Problem, Run, Start
from benches.shapes import CALL, INFERENCE, STEP, TRAIN

PACKAGES = {"onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino",), "jax": ("jax",)}
"""The modules that a package's columns need."""


def _deferred(module: str, formula: str) -> Start:
    """A peer is imported when its first column starts."""

    def start(problem: Problem) -> Run:
        found: Any = importlib.import_module(f"benches.peers.{module}")
        run: Run = found.start(problem, after=formula == "gru_after", threads=torch.get_num_threads())
        return run

    return start


def _pair(module: str, title: str, package: str, kinds: tuple[str, ...]) -> list[Column]:
    names = (("gru_after", "after"), ("gru_before", "before"))
    return [
        Column(f"{module}_{short}", f"{title}, {short}", formula, _deferred(module, formula), "", kinds, package)
        for formula, short in names
    ]


PEERS = (
    *_pair("onnx_runtime", "ONNX Runtime", "onnxruntime", (INFERENCE, STEP, CALL)),
    *_pair("openvino_sequence", "OpenVINO", "openvino", (INFERENCE, STEP)),
    *_pair("jax_scan", "JAX", "jax", (INFERENCE, STEP, TRAIN)),
)


def installed() -> tuple[Column, ...]:
    """The columns whose packages are here."""
    absent = missing()
    return tuple(column for column in PEERS if column.package not in absent)


def missing() -> list[str]:
    """Packages whose columns are left out."""
    return [p for p, modules in PACKAGES.items() if any(importlib.util.find_spec(m) is None for m in modules)]


def versions() -> dict[str, str]:
    """What is installed, for the page."""
    absent = missing()
    return {package: importlib.metadata.version(package) for package in PACKAGES if package not in absent}


def environment(threads: int) -> dict[str, str]:
    """What a process must be started with so that peers keep to so many threads.

    ONNX Runtime and OpenVINO are told per session. XLA sizes its pool by ``NPROC`` and splits products by a flag.
    OpenVINO sends statistics from a forked copy of the process unless it believes to be in CI.
    """
    eigen = [] if threads > 1 else ["--xla_cpu_multi_thread_eigen=false"]
    return {"CI": "true", "NPROC": str(threads), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(eigen)}
