"""ICC profiles for color spaces that a file describes by numbers.

PNG does so by gAMA and cHRM or by cICP, AVIF by nclx. Other formats hold none of these; all but BMP hold ICC
profiles. Numbers are those of ITU-T H.273, curves those of ICC.1:2022, 10.18.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.images import ImageError

Point = tuple[float, float]
"""x and y of a color in the CIE diagram of 1931."""

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
# Red, green, blue, white (H.273, table 2).
PRIMARIES: dict[int, tuple[Point, Point, Point, Point]] = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
_BT709 = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_SMPTE240 = (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4.0, 0.0913)
# From stored values to light: a power, or (aX + b)^g from d on and cX below (table 3).
CURVES: dict[int, tuple[float, ...]] = {
    1: _BT709,
    4: (2.2,),
    5: (2.8,),
    6: _BT709,
    7: _SMPTE240,
    8: (1.0,),
    13: _SRGB,
    14: _BT709,
    15: _BT709,
}
_UNSPECIFIED = 2
_HDR = {16: "PQ", 18: "HLG"}
# Bradford's adaptation, and the white of profiles (ICC.1:2022, annex E and 7.2.16).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


@dataclass(frozen=True)
class Colors:
    """A color space.

    Attributes:
        primaries: red, green, blue and white.
        curve: an entry of `CURVES`, or numbers of the same form.
    """

    primaries: tuple[Point, Point, Point, Point] = PRIMARIES[1]
    curve: tuple[float, ...] = _SRGB

    def is_srgb(self) -> bool:
        """Whether this is sRGB, or as near as makes no visible difference."""
        near = np.abs(np.subtract(self.primaries, PRIMARIES[1])).max() < 2e-3
        power = len(self.curve) == 1 and abs(self.curve[0] - 2.2) < 0.02
        return bool(near) and (self.curve == _SRGB or power)

    def profile(self, *, gray: bool) -> bytes:
        """An ICC profile of this color space.

        Args:
            gray: whether it is for images of one channel.

        Raises:
            ValueError: there is no color space of these primaries.
        """
        try:
            return _profile(self, gray=gray)
        except (np.linalg.LinAlgError, ZeroDivisionError, FloatingPointError) as error:
            raise ValueError(f"no colors have the primaries {self.primaries}") from error


def by_numbers(primaries: int, transfer: int, *, full_range: bool, name: str) -> Colors:
    """The color space of numbers of H.273; one that is unspecified is that of sRGB.

    Args:
        primaries: number of the primaries.
        transfer: number of the transfer characteristics.
        full_range: whether values cover all codes.
        name: what to call the image in errors.

    Raises:
        ImageError: high dynamic range, narrow range, or a number that no profile can express.
    """
    if transfer in _HDR:
        raise ImageError(
            f"{name} has high dynamic range ({_HDR[transfer]}), for which these networks are not made: "
            "convert it to standard dynamic range (SDR) first"
        )
    known = transfer in (*CURVES, _UNSPECIFIED) and primaries in (*PRIMARIES, _UNSPECIFIED)
    if not known or not full_range:
        raise ImageError(
            f"{name} has colors of an unusual kind (primaries {primaries}, transfer {transfer}"
            f"{'' if full_range else ', narrow range'}): convert it to sRGB first"
        )
    return Colors(PRIMARIES.get(primaries, PRIMARIES[1]), CURVES.get(transfer, _SRGB))


def _xyz(point: Point) -> NDArray[np.float64]:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _profile(colors: Colors, *, gray: bool) -> bytes:
    *chromatic, white = colors.primaries
    curve = _padded(b"para" + bytes(4) + _curve(colors.curve))
    adapted = np.linalg.solve(_BRADFORD, np.diag(_BRADFORD @ _D50 / (_BRADFORD @ _xyz(white))) @ _BRADFORD)
    tags = {
        b"desc": _text("Colors of the image's file"),
        b"cprt": _text("No copyright"),
        b"wtpt": _points(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(adapted.ravel()),
    }
    if gray:
        tags[b"kTRC"] = curve
    else:
        light = np.stack([_xyz(point) for point in chromatic], 1)
        columns = adapted @ (light * np.linalg.solve(light, _xyz(white)))
        tags |= {b"%cXYZ" % letter: _points(columns[:, i]) for i, letter in enumerate(b"rgb")}
        tags |= {b"%cTRC" % letter: curve for letter in b"rgb"}
    return _assembled(tags, b"GRAY" if gray else b"RGB ")


def _assembled(tags: dict[bytes, bytes], space: bytes) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    table, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for name, data in tags.items():
        if data not in places:
            places[data] = start + len(body)
            body += _padded(data)
        table += struct.pack(">4sII", name, places[data], len(data))
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x04300000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0") + table + body


def _curve(values: tuple[float, ...]) -> bytes:
    return struct.pack(">HH", 0 if len(values) == 1 else 3, 0) + _fixed(values)


def _fixed(values: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    return np.rint(np.asarray(values) * 65536).astype(">i4").tobytes()


def _points(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
