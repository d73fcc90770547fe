"""What several experiments share."""

from __future__ import annotations
