"""Side data of decoded frames, such as the rotation, and which of them cannot be kept."""

from __future__ import annotations

import ctypes
import gc
from typing import Any, cast

from av.dictionary import Dictionary
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

# What no encoder accepts here, by its usual name.
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
    """Read the side data of a frame.

    Only for one frame of a video: a frame whose side data were read is freed late, by the garbage collector.

    Returns:
        The data by FFmpeg's names without `AV_FRAME_DATA_`, or by `NUMBER_n` where PyAV has no name.
    """
    found = {}
    entries: Any = frame.side_data
    for entry in entries:
        found[entry.type.name] = bytes(entry)
        for owned in gc.get_referents(entry):
            # PyAV and the frame would both free it: the process would crash.
            if isinstance(owned, Dictionary) and len(owned):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(owned))
    return found


def lost_side_data(entries: dict[str, bytes]) -> list[str]:
    """The usual names of side data that cannot be kept, of what `side_data` returned."""
    return list(dict.fromkeys(name for kind, name in _LOST.items() if kind in entries))


def _unknown(cls: type[Type], value: object) -> Type:
    """A kind that is newer than PyAV's list of them, for which PyAV would raise."""
    kind: Any = object.__new__(cls)
    kind._name_, kind._value_ = f"NUMBER_{value}", value
    return cast(Type, kind)


Type._missing_ = classmethod(_unknown)  # type: ignore[assignment]
