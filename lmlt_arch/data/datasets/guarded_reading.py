"""Reading of training samples: a damaged image is named in the error, or skipped."""

from __future__ import annotations

import io
from pathlib import Path, PurePath
from typing import Any

import torch
from basicsr.utils import get_root_logger
from PIL import Image

from lmlt_arch.data.datasets.hr_images import HRImages
from lmlt_arch.data.images import ImageError, decode_image, look, reason_of
from lmlt_arch.errors import LmltError

# In a row: then more than a few images are damaged.
_MOST_SKIPPED = 100
_END_MARKERS = {
    b"\xff\xd8": b"\xff\xd9",  # JPEG
    b"\x89P": b"IEND\xaeB`\x82",  # PNG
}


class TrainingDataError(LmltError, RuntimeError):
    """A sample that cannot be trained on; the message names its files, the cause and the fix."""

    def __init__(self, message: str) -> None:
        # PyTorch's loader builds the error of a worker again, from the text of its whole traceback.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class GuardedReading:
    """Reads samples of a dataset of BasicSR.

    Args:
        dataset: has BasicSR's `paths` (or `images`, as in this package).
        skip_damaged: take the next sample instead of a damaged one, and name it once in the log.
    """

    def __init__(self, dataset: Any, *, skip_damaged: bool) -> None:
        self.dataset = dataset
        self._skip = skip_damaged
        # Shared with the loader's workers, so that an image is checked and named once, not once in each.
        self._checked = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()
        self._named = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    def get(self, index: int) -> Any:
        """The sample, or the next one that can be read.

        Raises:
            TrainingDataError: it is damaged and not to be skipped, or fails for another reason.
        """
        for step in range(min(_MOST_SKIPPED, len(self.dataset))):
            place = (index + step) % len(self.dataset)
            try:
                self._check_files(place)
                sample = self.dataset[place]
                self._check_stored(place)
                return sample
            except Exception as error:
                self._handle(place, error)
        raise TrainingDataError(
            f"{step + 1} images in a row are damaged, the last one {', '.join(self._files(place)) or place}: "
            "look at the data before training on it"
        )

    def _handle(self, place: int, error: Exception) -> None:
        files = ", ".join(self._files(place)) or f"sample {place}"
        damage = str(error) if isinstance(error, ImageError) else self._damage(place)
        if damage is None:
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise TrainingDataError(f"{files}: cannot be made a training sample ({cause})") from error
        if not self._skip:
            raise TrainingDataError(
                f"{damage}. Replace or delete the file, or go on without it: 'damaged_images: skip' under "
                "datasets: train"
            ) from error
        if not self._named[place]:
            self._named[place] = True
            get_root_logger().warning(f"Skipped: {damage}")

    def _files(self, place: int) -> list[str]:
        """Paths, or keys in an LMDB; empty for a dataset without BasicSR's list of them."""
        images = getattr(self.dataset, "images", None)
        if isinstance(images, HRImages):
            return [str(images.path(place))]
        paths = getattr(self.dataset, "paths", None)
        entry = paths[place] if isinstance(paths, list) and place < len(paths) else {}
        if isinstance(entry, dict):
            return [str(entry[key]) for key in ("gt_path", "lq_path") if key in entry]
        return [str(entry)] if isinstance(entry, str | PurePath) else []

    def _check_files(self, place: int) -> None:
        """Check files on the disk, once: OpenCV silently reads files that are cut off, and other colors.

        Raises:
            ImageError: one of them cannot be trained on.
        """
        if self._checked[place]:
            return
        for name in self._files(place):
            path = Path(name)
            if not path.is_file():
                continue
            if not _has_end(path) and (damage := _damage_of(path.read_bytes())):
                raise ImageError(f"{name} is damaged: {damage}")
            _refuse_other_colors(path, name)

    def _check_stored(self, place: int) -> None:
        """Check the colors of files in an LMDB, once; the dataset has opened it by now."""
        if self._checked[place]:
            return
        is_stock = type(self.dataset).__module__.startswith("basicsr.")
        client = self.dataset.file_client if is_stock else None
        if client is not None and client.backend == "lmdb":
            for name, kind in zip(self._files(place), ("gt", "lq"), strict=False):
                if kind in client.client._client:
                    _refuse_other_colors(bytes(client.get(name, kind)), name)
        self._checked[place] = True

    def _damage(self, place: int) -> str | None:
        """Why the files of a sample cannot be loaded; None if they can."""
        client = getattr(self.dataset, "file_client", None)
        for name, kind in zip(self._files(place), ("gt", "lq"), strict=False):
            try:
                data = client.get(name, kind) if client is not None else Path(name).read_bytes()
            except OSError as error:
                return f"{name} cannot be read: {error.strerror or error}"
            if data is None:
                return f"{name} is not in the LMDB"
            if damage := _damage_of(bytes(data)):
                return f"{name} is damaged: {damage}"
        return None


def _refuse_other_colors(source: Path | bytes, name: str) -> None:
    """Refuse images whose bit depth, transparency or color model BasicSR would drop."""
    refusal, may_be_transparent = look(source)
    if refusal is not None:
        raise ImageError(f"{name} {refusal}")
    if may_be_transparent:
        decode_image(source if isinstance(source, bytes) else source.read_bytes(), name=name)


def _has_end(path: Path) -> bool:
    """Whether a file has the end marker of its format; true for formats without one."""
    with path.open("rb") as file:
        marker = _END_MARKERS.get(file.read(2))
        if marker is None:
            return True
        file.seek(0, io.SEEK_END)
        file.seek(max(0, file.tell() - 64))
        return marker in file.read()


def _damage_of(data: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception as error:
        # Damaged files make decoders raise nearly anything.
        return "it is empty" if not data else reason_of(error)
    return None
