"""What is met on the way through a video and is not in the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import av.logging


@dataclass
class Losses:
    """What was met on the way through a video and is not in the result.

    Attributes:
        concealed: frames that were damaged.
        moved: frames whose timestamp was missing, or not after the one before.
        errors: what FFmpeg logged as errors.
        gaps: frames before which others are missing.
    """

    concealed: list[int] = field(default_factory=list)
    moved: int = 0
    errors: list[str] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)

    def notes(self) -> list[str]:
        """One line each."""
        notes = []
        if self.concealed:
            notes.append(
                f"damaged frames, fixed by the decoder: {len(self.concealed)}, first {self.concealed[0]}"
            )
        elif self.errors:
            notes.append(
                f"damaged, frames may be wrong or missing; errors met: {len(self.errors)}, "
                f"first {self.errors[0]!r}"
            )
        if self.gaps:
            notes.append(
                f"places where frames are missing: {len(self.gaps)}, first before frame {self.gaps[0]}"
            )
        if self.moved:
            notes.append(f"frames whose time was missing or not after the one before: {self.moved}")
        return notes


@contextmanager
def logged_errors(errors: list[str]) -> Iterator[None]:
    """Collect what FFmpeg logs as errors in this thread and otherwise keeps to itself."""
    level, once = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # Else an error would not be told that was the last one of the file before.
    av.logging.set_skip_repeated(False)
    try:
        # Other threads' errors are raised where they matter.
        with av.logging.Capture(local=False), av.logging.Capture() as logs:
            try:
                yield
            finally:
                errors += [
                    f"{name}: {' '.join(text.split())}"
                    for severity, name, text in logs
                    if severity <= av.logging.ERROR
                ]
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(once)
