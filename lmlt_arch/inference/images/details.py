"""What belongs to an image file besides its pixels: profile, EXIF, XMP, resolution, texts."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from lmlt_arch.inference.images.containers import Described
from lmlt_arch.inference.images.png import XMP_KEYWORD

_ORIENTATION, _X_RESOLUTION = 0x0112, 0x011A
_EXIF_IFD, _EXIF_WIDTH, _EXIF_HEIGHT = 0x8769, 0xA002, 0xA003
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/"
_JPEG_MOST = 65533 - 32  # bytes in one of its segments, names of EXIF and XMP excluded


@dataclass(frozen=True)
class Details:
    """What belongs to an image besides its pixels.

    Attributes:
        icc: color profile; None is sRGB.
        exif: EXIF data, without an orientation.
        xmp: XMP data.
        dpi: horizontal and vertical resolution.
        texts: keywords and texts of a PNG; a comment of a JPEG has the keyword `Comment`.
        notes: what is not kept, or not as it was.
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


HOLDS = {
    "PNG": {"icc", "exif", "xmp", "dpi"},
    "JPEG": {"icc", "exif", "xmp", "dpi"},
    "WEBP": {"icc", "exif", "xmp"},
    "TIFF": {"icc", "exif", "xmp", "dpi"},
    "BMP": {"dpi"},
    "AVIF": {"icc", "exif", "xmp"},
}
"""What each format has a place for, texts aside."""
_ALWAYS_COLOR = ("WEBP", "AVIF")
_WORDS = {"icc": "color profiles", "exif": "EXIF data", "xmp": "XMP data", "dpi": "dots per inch"}


def read_details(image: Image.Image, described: Described | None) -> tuple[Details, int]:
    """What Pillow, which has opened an image and not decoded it, and its container know; not for TIFF.

    Returns:
        The details, and the EXIF orientation, 1 to 8.
    """
    notes = list(described.notes) if described else []
    exif, orientation = None, 1
    # Damaged details are no reason to refuse the pixels.
    try:
        found = Image.Exif()
        found.load((described and described.exif) or image.info.get("exif", b""))
        turned = found.pop(_ORIENTATION, 1)
        orientation = turned if turned in range(1, 9) else 1
        exif = found.tobytes() if len(found) else None
    except Exception:
        notes.append("its EXIF data are damaged and left out")
    space = _space(image, described)
    icc, wrong = fitting_profile((described and described.icc) or image.info.get("icc_profile"), space)
    notes += wrong
    if described and described.colors and not (icc and image.format == "AVIF"):
        try:
            icc = None if described.colors.is_srgb() else described.colors.profile(gray=space == b"GRAY")
        except ValueError:
            notes.append("its description of colors is damaged and left out")
    if image.info.get("photoshop"):
        notes.append("its IPTC and Photoshop data are left out")
    if any(data.startswith(_EXTENDED_XMP) for _, data in getattr(image, "applist", ())):
        notes.append("the extension of its XMP data is left out")
    if image.format == "MPO":
        notes.append("of its several images only the first is upscaled")
    xmp = (described and described.xmp) or image.info.get("xmp")
    details = Details(
        icc=icc,
        exif=exif,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=_dpi(image),
        texts=tuple(_texts(image, described)),
        notes=tuple(notes),
    )
    return details, orientation


def fitting_profile(icc: Any, space: bytes) -> tuple[bytes | None, list[str]]:
    """A color profile, unless it is damaged or one of other colors than the image has, and what to note.

    Args:
        icc: the profile, if there is any.
        space: the image's colors, in the words of ICC.
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


def _space(image: Image.Image, described: Described | None) -> bytes:
    """The colors of an image that Pillow has opened, in the words of ICC."""
    if described and described.gray is not None:  # Pillow opens gray of 16 bits with transparency as colors
        return b"GRAY" if described.gray else b"RGB "
    return {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "CMYK": b"CMYK"}.get(image.mode, b"RGB ")


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit"):
        # Pillow says 72 where the EXIF data do not tell.
        with contextlib.suppress(Exception):
            if _X_RESOLUTION not in image.getexif():
                return None
    dpi = image.info.get("dpi")
    with contextlib.suppress(TypeError, ValueError):
        return (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None
    return None


def _texts(image: Image.Image, described: Described | None) -> Iterator[tuple[str, str]]:
    for marker, comment in getattr(image, "applist", ()):  # of a JPEG
        if marker == "COM":
            yield "Comment", comment.decode("utf-8", "replace")
    yield from described.texts if described else ()


def held(
    details: Details, chosen: str, *, size: tuple[int, int], gray: bool, comment: bool = True
) -> Details:
    """What of the details a format can hold; notes tell the rest.

    Args:
        details: those of the input.
        chosen: Pillow's name of the format.
        size: height and width of the output, which EXIF data repeat.
        gray: whether the output has no colors; some formats make colors of all.
        comment: whether the encoder can write one into a JPEG.
    """
    comments = [
        pair for pair in details.texts if pair[0] == "Comment" and len(pair[1].encode()) <= _JPEG_MOST
    ]
    texts = {"PNG": details.texts, "JPEG": tuple(comments[:1] if comment else ())}.get(chosen, ())
    values: dict[str, Any] = {name: getattr(details, name) for name in _WORDS}
    values |= {"exif": _resized_exif(details.exif, size), "xmp": _upright_xmp(details.xmp), "texts": texts}
    notes = [f"its texts are left out: {chosen} has no place for them"] if texts != details.texts else []
    for name, words in _WORDS.items():
        value, most = values[name], _JPEG_MOST if chosen == "JPEG" and name in ("exif", "xmp") else math.inf
        if value and (name not in HOLDS[chosen] or len(value) > most):
            why = "no place for them" if name not in HOLDS[chosen] else "too little place for them"
            notes.append(f"its {words} are left out: {chosen} has {why}")
            values[name] = None
    gray = gray and chosen not in _ALWAYS_COLOR
    if values["icc"] and values["icc"][16:20] == b"GRAY" and not gray:
        values["icc"] = None
        notes.append("its color profile is left out: it is one of gray, and the result has colors")
    return replace(details, notes=(*details.notes, *notes), **values)


def _upright_xmp(data: bytes | None) -> bytes | None:
    """XMP data, which say that the image is upright, if they say anything of that."""
    return data and re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]", rb"\g<1>1", data)


def _resized_exif(data: bytes | None, size: tuple[int, int]) -> bytes | None:
    """EXIF data, in which the size of the image is that of this one."""
    if data is None:
        return None
    exif = Image.Exif()
    exif.load(data)
    inner = exif.get_ifd(_EXIF_IFD)
    for tag, axis in ((_EXIF_WIDTH, 1), (_EXIF_HEIGHT, 0)):
        if tag in inner:
            inner[tag] = size[axis]
    return exif.tobytes()


def for_pillow(details: Details, chosen: str) -> dict[str, Any]:
    """Arguments for Pillow's `save`; of a TIFF, EXIF and XMP follow by `tiff_tags.add_tags`."""
    given: dict[str, Any] = {"icc_profile": details.icc, "dpi": details.dpi}
    if chosen == "BMP":
        given["dpi"] = details.dpi or (0, 0)  # Pillow would say 96
    if chosen != "TIFF":
        given["exif"] = details.exif
    if chosen == "PNG":
        given["pnginfo"] = _chunks(details)
    elif chosen != "TIFF":
        given["xmp"] = details.xmp
    if chosen == "JPEG" and details.texts:
        given["comment"] = details.texts[0][1].encode()
    return {key: value for key, value in given.items() if value is not None}


def _chunks(details: Details) -> PngInfo:
    info = PngInfo()
    if details.xmp:
        info.add_itxt(XMP_KEYWORD, details.xmp.decode("utf-8", "replace"))
    for keyword, text in details.texts:
        info.add_itxt(keyword, text)
    return info
