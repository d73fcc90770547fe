"""Upscaling of videos: decoding, the network and encoding; all other streams are copied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lmlt_arch.renamed import moved, warn_renamed


def __getattr__(name: str) -> Any:
    if name != "upscale_video":
        return moved(__name__, name)
    warn_renamed(f"{__name__}.upscale_video", "lmlt_arch.inference.video.upscale.upscale_video, height first")
    return _upscale_width_first


def _upscale_width_first(source: Any, target: Any, enlarge: Any, *, size: Any = None, **kwargs: Any) -> Any:
    """`upscale_video` under its former names, whose sizes were widths and heights."""
    from lmlt_arch.inference.video.upscale import upscale_video

    def height_first(before: tuple[int, int]) -> tuple[int, int]:
        width, height = size(*reversed(before)) if callable(size) else size
        return height, width

    report = upscale_video(source, target, enlarge, size=None if size is None else height_first, **kwargs)
    return replace(report, source_size=report.source_size[::-1], size=report.size[::-1])
