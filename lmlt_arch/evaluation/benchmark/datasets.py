"""Finding the images of a dataset in the folders that the field uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lmlt_arch.data.listing import IMAGE_SUFFIXES
from lmlt_arch.errors import DataError, UsageError


class Item(NamedTuple):
    """An image of a dataset; without `lq` that is made from `gt`."""

    name: str
    gt: Path
    lq: Path | None


@dataclass(frozen=True)
class Dataset:
    """A dataset at one scale.

    Attributes:
        name: the folder's.
        scale: GT size over LQ size.
        items: at least one, sorted by name.
    """

    name: str
    scale: int
    items: list[Item]

    @property
    def lq_given(self) -> bool:
        """Whether LQ images come with the dataset."""
        return self.items[0].lq is not None


class _Layout(NamedTuple):
    """Folders, and how names in them end, of GT and of LQ; the latter in the order of preference."""

    gt: str
    lq: str
    gt_ending: str = ""
    lq_endings: tuple[str, ...] = ("x{scale}", "")

    def at(self, scale: int) -> _Layout:
        return self._replace(
            gt=self.gt.format(scale=scale),
            lq=self.lq.format(scale=scale),
            lq_endings=tuple(ending.format(scale=scale) for ending in self.lq_endings),
        )


_LAYOUTS = (
    _Layout("HR", "LR_bicubic/X{scale}"),
    _Layout("GTmod12", "LRbicx{scale}"),
    _Layout("GTmod{scale}", "LRbicx{scale}"),
    _Layout("GT", "LR_bicubic/X{scale}"),
    _Layout("image_SRF_{scale}", "image_SRF_{scale}", "_HR", ("_LR",)),
)
_GT_FOLDERS = ("HR", "GT", "GTmod12")


def find_dataset(folder: Path, scale: int) -> Dataset:
    """Find ground truth and, where they are there, LQ images.

    | folders | names |
    |---|---|
    | `HR`, `LR_bicubic/X4` | `baby.png`, `babyx4.png` or `baby.png` |
    | `GTmod12` or `GTmod4`, `LRbicx4` | the same |
    | `image_SRF_4` | `img_001_SRF_4_HR.png`, `img_001_SRF_4_LR.png` |
    | the folder itself | ground truth |

    Args:
        folder: of the dataset, or of nothing but ground truth.
        scale: GT size over LQ size.

    Raises:
        UsageError: no such folder, or no images in it.
        DataError: an image without a partner.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    layout = _layout(folder, scale)
    if layout is None:
        items = [Item(path.stem, path, None) for path in _images(folder)]
        if not items:
            raise UsageError(
                f"no images in {folder}: expected HR/ and LR_bicubic/X{scale}/ below it, GTmod12/ and "
                f"LRbicx{scale}/, or ground truth in the folder itself"
            )
        above = folder.absolute()
        return Dataset(above.parent.name if above.name in _GT_FOLDERS else above.name, scale, items)
    gt_folder, lq_folder = folder / layout.gt, folder / layout.lq
    truths = [path for path in _images(gt_folder) if path.stem.endswith(layout.gt_ending)]
    if not truths:
        raise UsageError(f"no images in {gt_folder}")
    partners = {path.stem: path for path in _images(lq_folder)} if lq_folder.is_dir() else None
    items = []
    for path in truths:
        name = path.stem.removesuffix(layout.gt_ending)
        lq = None if partners is None else _partner(path, lq_folder, partners, name, layout.lq_endings)
        items.append(Item(name, path, lq))
    return Dataset(folder.absolute().name, scale, items)


def _layout(folder: Path, scale: int) -> _Layout | None:
    """The layout that the folder has; rather one with LQ than one without."""
    layouts = [layout.at(scale) for layout in _LAYOUTS]
    present = [layout for layout in layouts if (folder / layout.gt).is_dir()]
    return next((layout for layout in present if (folder / layout.lq).is_dir()), next(iter(present), None))


def _partner(gt: Path, folder: Path, partners: dict[str, Path], name: str, endings: Sequence[str]) -> Path:
    for ending in endings:
        if f"{name}{ending}" in partners:
            return partners[f"{name}{ending}"]
    looked_for = " or ".join(f"{name}{ending}" for ending in endings)
    raise DataError(f"{gt} has no partner in {folder}: looked for {looked_for}")


def _images(folder: Path) -> list[Path]:
    """Directly in the folder: what lies deeper in a folder of unknown layout may be LQ."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
