"""The metadata of an image file: color profile, EXIF, XMP, resolution, texts."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageCms

from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.images.containers import ContainerInfo
from lmlt_arch.inference.images.formats import Format

_ORIENTATION, _X_RESOLUTION = 0x0112, 0x011A
_EXIF_IFD, _EXIF_WIDTH, _EXIF_HEIGHT = 0x8769, 0xA002, 0xA003
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/"
_JPEG_MOST = 65533 - 32  # bytes in one of its segments, names of EXIF and XMP excluded


@dataclass(frozen=True)
class Details:
    """The metadata of an image file.

    Attributes:
        icc: color profile; None is sRGB.
        exif: EXIF data, without an orientation.
        xmp: XMP data.
        dpi: horizontal and vertical resolution.
        texts: keywords and texts of a PNG; a comment of a JPEG has the keyword `Comment`.
        notes: what is not kept, or is changed.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def noting(self, *notes: str) -> Details:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *notes))


_WORDS = {"icc": "color profiles", "exif": "EXIF data", "xmp": "XMP data", "dpi": "dots per inch"}


def read_details(image: Image.Image, container: ContainerInfo | None) -> tuple[Details, int]:
    """Read the metadata of any image but a TIFF.

    Args:
        image: opened by Pillow, not decoded.
        container: what was read from the container itself.

    Returns:
        The metadata, and the EXIF orientation, 1 to 8.
    """
    notes = list(container.notes) if container else []
    exif, orientation = None, 1
    # Damaged metadata are no reason to refuse the pixels.
    try:
        found = Image.Exif()
        found.load((container and container.exif) or image.info.get("exif", b""))
        turned = found.pop(_ORIENTATION, 1)
        orientation = turned if turned in range(1, 9) else 1
        exif = found.tobytes() if len(found) else None
    except Exception:
        notes.append("its EXIF data are damaged and left out")
    space = _space(image, container)
    icc, wrong = fitting_profile((container and container.icc) or image.info.get("icc_profile"), space)
    notes += wrong
    if container and container.colors and not (icc and image.format == "AVIF"):
        try:
            icc = None if container.colors.is_srgb() else container.colors.profile(gray=space == b"GRAY")
        except ValueError:
            notes.append("its description of colors is damaged and left out")
    if image.info.get("photoshop"):
        notes.append("its IPTC and Photoshop data are left out")
    if any(data.startswith(_EXTENDED_XMP) for _, data in getattr(image, "applist", ())):
        notes.append("the extension of its XMP data is left out")
    if image.format == "MPO":
        notes.append("of its several images only the first is upscaled")
    xmp = (container and container.xmp) or image.info.get("xmp")
    details = Details(
        icc=icc,
        exif=exif,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=_dpi(image),
        texts=tuple(_texts(image, container)),
        notes=tuple(notes),
    )
    return details, orientation


def fitting_profile(icc: Any, space: bytes) -> tuple[bytes | None, list[str]]:
    """Check a color profile.

    Args:
        icc: the profile, if there is any.
        space: the color space of the image, by its ICC signature.

    Returns:
        The profile, or None if it is damaged or for another color space, and notes on that.
    """
    if not icc:
        return None, []
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except Exception:
        return None, ["its color profile is damaged and left out"]
    if icc[16:20] == space:
        return icc, []
    other = icc[16:20].decode("ascii", "replace").strip()
    return None, [f"its color profile is left out: it is for {other}, which the image is not"]


def _space(image: Image.Image, container: ContainerInfo | None) -> bytes:
    """The ICC signature of the color space of an image that Pillow has opened."""
    if container and container.gray is not None:  # Pillow opens gray of 16 bits with transparency as colors
        return b"GRAY" if container.gray else b"RGB "
    return {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "CMYK": b"CMYK"}.get(image.mode, b"RGB ")


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit"):
        # Pillow returns 72 where the EXIF data have no resolution.
        with contextlib.suppress(Exception):
            if _X_RESOLUTION not in image.getexif():
                return None
    dpi = image.info.get("dpi")
    with contextlib.suppress(TypeError, ValueError):
        return (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None
    return None


def _texts(image: Image.Image, container: ContainerInfo | None) -> Iterator[tuple[str, str]]:
    for marker, comment in getattr(image, "applist", ()):  # of a JPEG
        if marker == "COM":
            yield "Comment", comment.decode("utf-8", "replace")
    yield from container.texts if container else ()


def fit_details(details: Details, chosen: Format, *, size: Size, gray: bool, comment: bool = True) -> Details:
    """The metadata that a format can hold; the notes of the result name what is left out.

    Args:
        details: those of the input.
        chosen: the format.
        size: height and width of the output, which EXIF data repeat.
        gray: whether the output is gray; some formats hold RGB only.
        comment: whether the encoder can write one into a JPEG.
    """
    comments = [
        pair for pair in details.texts if pair[0] == "Comment" and len(pair[1].encode()) <= _JPEG_MOST
    ]
    texts = {"PNG": details.texts, "JPEG": tuple(comments[:1] if comment else ())}.get(chosen.name, ())
    values: dict[str, Any] = {name: getattr(details, name) for name in _WORDS}
    values |= {"exif": _resized_exif(details.exif, size), "xmp": _upright_xmp(details.xmp), "texts": texts}
    notes = [f"its texts are left out: {chosen.name} has no place for them"] if texts != details.texts else []
    for name, words in _WORDS.items():
        limited = chosen.name == "JPEG" and name in ("exif", "xmp")
        value, most = values[name], _JPEG_MOST if limited else math.inf
        if value and (name not in chosen.holds or len(value) > most):
            why = "no place for them" if name not in chosen.holds else "too little place for them"
            notes.append(f"its {words} are left out: {chosen.name} has {why}")
            values[name] = None
    if values["icc"] and values["icc"][16:20] == b"GRAY" and not (gray and chosen.gray):
        values["icc"] = None
        notes.append("its color profile is left out: it is one of gray, and the result has colors")
    return replace(details, notes=(*details.notes, *notes), **values)


def _upright_xmp(data: bytes | None) -> bytes | None:
    """XMP data whose orientation, if they have one, is upright."""
    return data and re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]", rb"\g<1>1", data)


def _resized_exif(data: bytes | None, size: Size) -> bytes | None:
    """EXIF data with the height and width of the output in place of the old ones."""
    if data is None:
        return None
    exif = Image.Exif()
    exif.load(data)
    inner = exif.get_ifd(_EXIF_IFD)
    for tag, axis in ((_EXIF_WIDTH, 1), (_EXIF_HEIGHT, 0)):
        if tag in inner:
            inner[tag] = size[axis]
    return exif.tobytes()
