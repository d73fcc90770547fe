"""Conversion of video frames to RGB tensors and back, by their matrix and range.

libswscale unpacks pixel formats to planes of 16 bits, which it does exactly. Matrix, range and the size of
chroma are converted here, in floats: libswscale's own conversions from and to RGB are off by up to two
codes of 8 bits, whatever the depth. Chroma of half the width lies on the even columns of luma, the default
of MPEG-2, H.264, HEVC and AV1; of half the height, between two lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

# AVColorSpace: the weights of red and blue in luma (ITU-T H.273, table 4).
_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601 of 625 lines
    6: (0.299, 0.114),  # BT.601 of 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
_RGB, _BT709, _BT601 = 0, 1, 6
UNSPECIFIED = 2
"""Of primaries, transfers and matrices alike."""

# libswscale's SWS_BICUBIC and SWS_ACCURATE_RND, the latter without a name before PyAV 18.
_EXACT = 0x4 | 0x40000
# Planes of libav's planar RGB are green, blue, red.
_GBR = (2, 0, 1)


@dataclass(frozen=True)
class Color:
    """The color space of a video, in FFmpeg's numbers.

    Attributes:
        primaries: AVColorPrimaries.
        transfer: AVColorTransferCharacteristic.
        matrix: AVColorSpace, one that is supported here.
        full: whether luma covers all codes (JPEG) or 16 to 235 of 255 (MPEG).
    """

    primaries: int
    transfer: int
    matrix: int
    full: bool


def color_of(frame: VideoFrame) -> Color:
    """The color space of a frame; a matrix that is not specified is that of its size.

    Raises:
        ValueError: a matrix that cannot be inverted channel by channel, such as ICtCp; XYZ, or floats.
    """
    if frame.format.name.startswith("xyz") or bit_depth(frame.format) > 16:
        raise ValueError(
            f"its pixel format, {frame.format.name}, is not supported; convert it to RGB or YUV first"
        )
    matrix = frame.colorspace
    if _is_rgb(frame.format) or matrix in (_RGB, UNSPECIFIED):
        matrix = _BT709 if frame.width > 1024 or frame.height > 576 else _BT601
    if matrix not in _WEIGHTS:
        raise ValueError(
            f"its color matrix, number {matrix} of ITU-T H.273, is not supported; "
            "convert it to BT.709 or BT.2020nc first"
        )
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    if len(frame.format.components) < 3 and not frame.format.has_palette:
        full = frame.color_range != ColorRange.MPEG  # also gray of unspecified range
    if _is_rgb(frame.format):
        full = False  # RGB covers all codes; it is encoded as the usual YUV
    return Color(frame.color_primaries, frame.color_trc, matrix, full)


def bit_depth(pixels: VideoFormat) -> int:
    """Bits of the deepest component."""
    return max(component.bits for component in pixels.components)


def _is_rgb(pixels: VideoFormat) -> bool:
    return pixels.is_rgb or pixels.has_palette or pixels.is_bayer


class ToRGB:
    """Converts frames to RGB; one for each thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, color: Color) -> Tensor:
        """RGB of one frame.

        Returns:
            (3, H, W), float32 in [0, 1].
        """
        pixels = frame.format
        bits = bit_depth(pixels)
        if _is_rgb(pixels):
            if not re.fullmatch(r"gbra?p(\d+le)?", pixels.name):
                frame, bits = self._simpler(frame, "gbrp")
            planes = _planes(frame)
            return _tensor([planes[i] for i in _GBR]) / (2**bits - 1)
        if len(pixels.components) < 3:
            if not re.fullmatch(r"gray(\d+le)?", pixels.name):
                frame, bits = self._simpler(frame, "gray")
            y = _luma(_tensor(_planes(frame)[:1]) * 2 ** (16 - bits), bits, color.full)
            return y.clamp(0, 1).expand(3, -1, -1)
        codes = self._codes(frame)
        y = _luma(codes[0], bits, color.full)
        u, v = _chroma(codes[1:], bits, color.full)
        red, blue = _WEIGHTS[color.matrix]
        r = y + 2 * (1 - red) * v
        b = y + 2 * (1 - blue) * u
        g = (y - red * r - blue * b) / (1 - red - blue)
        return torch.stack([r, g, b]).clamp_(0, 1)

    def _simpler(self, frame: VideoFrame, layout: str) -> tuple[VideoFrame, int]:
        """The frame with its components one after the other, in as many bits as hold them, 8 or 16."""
        bits = 8 if bit_depth(frame.format) <= 8 else 16
        return _converted(self._reformatter, frame, layout if bits == 8 else f"{layout}16le"), bits

    def _codes(self, frame: VideoFrame) -> Tensor:
        """Luma and chroma at full size, in codes of 16 bits: those of fewer bits shifted to the left."""
        if frame.format.name == "yuvj444p":
            return _tensor(_planes(frame)) * 256
        if subsampling(frame.format)[0] != 2:
            return _tensor(_planes(_converted(self._reformatter, frame, "yuv444p16le")))
        planes = _planes(_converted(self._reformatter, frame, "yuv422p16le"))
        chroma = _twice_as_wide(_tensor(planes[1:]))[..., : frame.width]
        return torch.cat([_tensor(planes[:1]), chroma])


class FromRGB:
    """Converts RGB to frames of one pixel format; one for each thread.

    Args:
        pixels: name of a pixel format of 4:2:0, 4:2:2 or 4:4:4.
        color: the color space of the frames.
    """

    def __init__(self, pixels: str, color: Color) -> None:
        self._reformatter = VideoReformatter()
        self._pixels = pixels
        self._color = color
        self._bits = bit_depth(VideoFormat(pixels))
        self._subsampling = subsampling(VideoFormat(pixels))

    def planes(self, rgb: Tensor) -> list[Tensor]:
        """Luma and chroma, on the device of `rgb`.

        Args:
            rgb: (B, 3, H, W), any float; what is outside [0, 1] is clamped.

        Returns:
            Three of (B, h, w), int32: codes of the format's depth, chroma at its size.
        """
        r, g, b = rgb.float().clamp(0, 1).unbind(1)
        red, blue = _WEIGHTS[self._color.matrix]
        y = red * r + (1 - red - blue) * g + blue * b
        chroma = [(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))]
        most = 2**self._bits - 1
        middle = 2 ** (self._bits - 1)
        unit = 2 ** (self._bits - 8)
        whole, part, black = (most, most, 0) if self._color.full else (219 * unit, 224 * unit, 16 * unit)
        codes = [y * whole + black, *(self._shrunk(c) * part + middle for c in chroma)]
        return [plane.round().clamp(0, most).to(torch.int32) for plane in codes]

    def _shrunk(self, chroma: Tensor) -> Tensor:
        """Chroma (B, H, W) at the format's size."""
        across, down = self._subsampling
        if down == 2:
            chroma = (chroma[:, 0::2] + chroma[:, 1::2]) / 2
        if across == 2:
            left = torch.cat([chroma[..., :1], chroma[..., 1:-1:2]], -1)
            chroma = (left + 2 * chroma[..., 0::2] + chroma[..., 1::2]) / 4
        return chroma

    def frame(self, planes: Sequence[Tensor]) -> VideoFrame:
        """A frame to encode.

        Args:
            planes: three of (h, w), one image of what `planes` returned.
        """
        height, width = planes[0].shape
        frame = VideoFrame(width, height, planar_yuv(self._subsampling, self._bits))
        for memory, plane in zip(_planes(frame), planes, strict=True):
            memory[:] = plane.cpu().numpy()
        frame = _converted(self._reformatter, frame, self._pixels)
        # Some encoders read these from the frame and not from their settings.
        frame.color_primaries, frame.color_trc = self._color.primaries, self._color.transfer
        frame.colorspace = self._color.matrix
        frame.color_range = ColorRange.JPEG if self._color.full else ColorRange.MPEG
        return frame


def planar_yuv(subsampling: tuple[int, int], bits: int) -> str:
    """The name of a planar YUV format: "yuv420p10le" of (2, 2) and 10."""
    chroma = {(2, 2): "420", (2, 1): "422", (1, 1): "444"}[subsampling]
    return f"yuv{chroma}p{'' if bits == 8 else f'{bits}le'}"


def subsampling(pixels: VideoFormat) -> tuple[int, int]:
    """How many columns and lines of luma share a chroma sample."""
    return 16 // pixels.chroma_width(16), 16 // pixels.chroma_height(16)


def _twice_as_wide(chroma: Tensor) -> Tensor:
    """Columns between the columns: (..., W) to (..., 2 W), the first on the first; cubic."""
    padded = torch.cat([chroma[..., :1], chroma, chroma[..., -1:], chroma[..., -1:]], -1)
    a, b, c, d = (padded[..., i : i + chroma.shape[-1]] for i in range(4))
    return torch.stack([b, (9 * (b + c) - a - d) / 16], -1).flatten(-2)


def _luma(codes: Tensor, bits: int, full: bool) -> Tensor:
    """Luma, nominally in [0, 1], of 16 bits' codes."""
    if full:
        return codes / ((2**bits - 1) * 2 ** (16 - bits))
    return (codes / 256 - 16) / 219


def _chroma(codes: Tensor, bits: int, full: bool) -> Tensor:
    """Chroma, nominally in [-1/2, 1/2], of 16 bits' codes."""
    if full:
        return (codes - 2**15) / ((2**bits - 1) * 2 ** (16 - bits))
    return (codes / 256 - 128) / 224


def _converted(reformatter: VideoReformatter, frame: VideoFrame, pixels: str) -> VideoFrame:
    """The frame in another pixel format, codes untouched but for their number of bits.

    Range and matrix are set to be the same on both sides: libswscale must not convert them.
    """
    ranges = ColorRange.JPEG if frame.format.name.startswith("yuvj") else ColorRange.MPEG
    return reformatter.reformat(
        frame,
        format=pixels,
        interpolation=_EXACT,
        src_colorspace=_BT709,
        dst_colorspace=_BT709,
        src_color_range=ranges,
        dst_color_range=ranges,
    )


def _planes(frame: VideoFrame) -> list[NDArray[np.integer]]:
    """The frame's own memory, one array (H, W) for each plane."""
    kind = np.dtype("<u2" if bit_depth(frame.format) > 8 else "u1")
    return [
        np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]  # type: ignore
        for plane in frame.planes
    ]


def _tensor(planes: list[NDArray[np.integer]]) -> Tensor:
    return torch.from_numpy(np.stack(planes).astype(np.float32))
