"""What a decoder hands out beside a frame, such as its rotation."""

from __future__ import annotations

import ctypes
import gc
from typing import Any, cast

from av.dictionary import Dictionary
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

# What no encoder takes from here, by what people call it.
_LOST = {
    "A53_CC": "closed captions inside the video stream",
    "MASTERING_DISPLAY_METADATA": "HDR mastering display data",
    "CONTENT_LIGHT_LEVEL": "HDR content light level",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "HDR ambient viewing data",
    "ICC_PROFILE": "ICC color profile",
    "S12M_TIMECODE": "timecodes inside the video stream",
    "AFD": "active format description",
    "STEREO3D": "stereoscopic 3D layout",
    "SPHERICAL": "spherical projection",
    **dict.fromkeys(("LCEVC", "NUMBER_28"), "LCEVC enhancement"),
    **dict.fromkeys(("EXIF", "NUMBER_31"), "EXIF data inside the video stream"),
}


def side_data(frame: VideoFrame) -> dict[str, bytes]:
    """A frame's side data by FFmpeg's names, without `AV_FRAME_DATA_`, or by number where PyAV has no name.

    To be asked of one frame of a video only: a frame that was asked is freed late, by the garbage collector.
    """
    found = {}
    entries: Any = frame.side_data
    for entry in entries:
        found[entry.type.name] = bytes(entry)
        for owned in gc.get_referents(entry):
            # PyAV would free it although it is the frame's, which frees it too: the process would crash.
            if isinstance(owned, Dictionary) and len(owned):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(owned))
    return found


def lost(kinds: dict[str, bytes]) -> list[str]:
    """What of a frame's side data cannot be kept, for people."""
    return list(dict.fromkeys(name for kind, name in _LOST.items() if kind in kinds))


def _unknown(cls: type[Type], value: object) -> Type:
    """A kind that is newer than PyAV's list of them, of which it otherwise makes an error."""
    kind: Any = object.__new__(cls)
    kind._name_, kind._value_ = f"NUMBER_{value}", value
    return cast(Type, kind)


Type._missing_ = classmethod(_unknown)  # type: ignore[assignment]
