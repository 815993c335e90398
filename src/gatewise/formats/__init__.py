"""Weights and models on their way to and from other programs; nothing is written before it was run and compared."""

from gatewise.formats import onnx as onnx
