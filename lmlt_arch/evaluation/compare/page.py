"""A comparison as one self-contained HTML page; the page itself is `compare.html` beside this file."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.compare.comparison import Comparison
from lmlt_arch.evaluation.pairs import Scores
from lmlt_arch.version import __version__

Pixels = NDArray[np.uint8]

# Tried in this order until a page is small enough.
JPEG_QUALITIES = (95, 85)


def make_page(comparisons: Sequence[Comparison], *, limit: int) -> bytes:
    """The page, images embedded as PNG; as JPEG where it would be larger than `limit` otherwise.

    Args:
        comparisons: at least one.
        limit: bytes.

    Raises:
        UsageError: larger than `limit` even with JPEG.
    """
    size = 0
    for quality in (None, *JPEG_QUALITIES):
        page = _page(comparisons, quality)
        size = len(page)
        if size <= limit:
            return page
    raise UsageError(
        f"the page would have {math.ceil(size / 1e6)} MB, over the limit of {limit / 1e6:g} MB: give fewer "
        "or smaller images, or raise --html-limit"
    )


def _page(comparisons: Sequence[Comparison], quality: int | None) -> bytes:
    content = {
        "encoding": "PNG" if quality is None else f"JPEG, quality {quality}",
        "version": __version__,
        "images": [_image(comparison, quality) for comparison in comparisons],
    }
    title = ", ".join(dict.fromkeys(comparison.name for comparison in comparisons))
    if len(title) > 60:
        title = f"{title[:60]}..."
    # No text in the data may end the script element that holds it.
    data = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
    template = files(__package__).joinpath("compare.html").read_text(encoding="utf-8")
    # Both at once: a name may look like the other's place. A name may also hold bytes that are no text.
    parts = {"{{title}}": html.escape(title), "{{data}}": data}
    return re.sub(r"{{\w+}}", lambda found: parts[found[0]], template).encode(errors="replace")


def _image(comparison: Comparison, quality: int | None) -> dict[str, Any]:
    height, width = comparison.size
    versions = [
        {"name": name, "source": _data_uri(pixels, quality), **_numbers(scores)}
        for name, pixels, scores in _versions(comparison)
    ]
    return {
        "name": comparison.name,
        "scale": comparison.scale,
        "width": width,
        "height": height,
        "truth": comparison.gt is not None,
        "versions": versions,
    }


def _versions(comparison: Comparison) -> Iterator[tuple[str, Pixels, Scores | None]]:
    # The browser upscales it to the others' size, pixel by pixel.
    yield "LR (nearest)", comparison.lq, None
    yield from comparison.versions
    if comparison.gt is not None:
        yield "GT", comparison.gt, None


def _numbers(scores: Scores | None) -> dict[str, str]:
    """Scores as text, since JSON has no infinity, which equal images have."""
    return {} if scores is None else {"psnr": f"{scores.psnr:.2f}", "ssim": f"{scores.ssim:.4f}"}


def _data_uri(pixels: Pixels, quality: int | None) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if quality is None:
        image.save(buffer, "PNG", optimize=True)
    else:
        # Chroma at full size: colors are part of what is compared.
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    kind = "png" if quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
