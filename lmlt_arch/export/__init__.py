"""Networks as files that run without this package: ONNX, and programs of `torch.export`."""

from __future__ import annotations

ONNX, PT2 = ".onnx", ".pt2"
"""Suffixes by which the two kinds of files are known."""
