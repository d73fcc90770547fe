"""Progress bars."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(description: str, unit: str, total: int) -> tqdm[Any]:
    """A bar with the remaining time; redrawn every 10 seconds where it goes to a file."""
    interval = 0.1 if sys.stderr.isatty() else 10
    return tqdm(total=total, desc=description, unit=unit, mininterval=interval)
