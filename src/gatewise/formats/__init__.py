"""Weights and models of other frameworks, in and out; nothing is written before it was run and compared."""

from gatewise.formats import onnx as onnx
