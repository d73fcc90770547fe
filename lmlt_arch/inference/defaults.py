"""What functions and commands take by default; loads nothing, so that `--help` stays quick."""

from __future__ import annotations

OVERLAP = 64
"""Of neighboring tiles, in pixels of lq."""

MAX_PIXELS = 2**28
"""Inputs of more pixels are refused."""

QUALITY = 95
"""Of JPEG, WebP and AVIF, 1 to 100."""

CRF = 16
"""Quality of videos, lower is better."""

BACKENDS = ("onnxruntime", "openvino")
"""What runs ONNX files, the default first."""
