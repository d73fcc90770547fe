"""Sizes of images: height before width, everywhere but on the command line and in containers of videos."""

from __future__ import annotations

Size = tuple[int, int]
"""Height and width."""
