"""What the checks know of datasets: one table, an entry for each class whose keys are all known."""

from __future__ import annotations

from dataclasses import dataclass

PAIRS = ("dataroot_gt", "dataroot_lq")
"""The roots of a dataset, that of ground truth first."""

RAW_SET = "PairedCropDataset"
"""The dataset that reads LMDBs of raw pixels, and the only one that does."""


@dataclass(frozen=True)
class DatasetKind:
    """A dataset as the checks see it.

    Attributes:
        home: module of BasicSR that defines it; empty for one of ours.
        roots: keys of the folders or LMDBs that it reads; with both of `PAIRS` its samples are pairs.
        lacks: the images that it does not give, and that training compares; empty if it gives pairs.
        list_key: key of a text file that lists its images; empty if it takes none.
        lists_both: whether a line of that file names both images of a pair, `ground truth, low quality`.
        needs_list: whether it must have that file to read from folders.
        reads_hr_images: whether it reads through `data.datasets.hr_images.HRImages`: roots and lists
            may be several, folders are searched at any depth, and `io_backend` may be missing.
        needs_crop: whether training needs `gt_size`, the side of its crops.
        needs_flips: whether it reads `use_hflip` and `use_rot` without a default.
        makes_kernels: whether it samples the kernels of the degradation itself, so that it needs their keys.
        any_scale: whether the scale changes from batch to batch.
    """

    home: str = ""
    roots: tuple[str, ...] = ("dataroot_gt",)
    lacks: str = ""
    list_key: str = "meta_info_file"
    lists_both: bool = False
    needs_list: bool = False
    reads_hr_images: bool = False
    needs_crop: bool = False
    needs_flips: bool = False
    makes_kernels: bool = False
    any_scale: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether the plugin brings it."""
        return not self.home

    @property
    def is_paired(self) -> bool:
        """Whether its samples are pairs from two roots."""
        return self.roots == PAIRS


DATASETS: dict[str, DatasetKind] = {
    "PairedImageDataset": DatasetKind(
        "basicsr.data.paired_image_dataset", PAIRS, needs_crop=True, needs_flips=True
    ),
    "SingleImageDataset": DatasetKind(
        "basicsr.data.single_image_dataset", ("dataroot_lq",), lacks="ground truth"
    ),
    "RealESRGANDataset": DatasetKind(
        "basicsr.data.realesrgan_dataset",
        lacks="LQ",
        list_key="meta_info",
        needs_list=True,
        needs_flips=True,
        makes_kernels=True,
    ),
    "RealESRGANPairedDataset": DatasetKind(
        "basicsr.data.realesrgan_paired_dataset",
        PAIRS,
        list_key="meta_info",
        lists_both=True,
        needs_crop=True,
        needs_flips=True,
    ),
    RAW_SET: DatasetKind(roots=PAIRS, list_key="", needs_crop=True),
    "DownsampleImageDataset": DatasetKind(reads_hr_images=True, needs_crop=True),
    "ArbitraryScaleDataset": DatasetKind(reads_hr_images=True, any_scale=True),
    "HQImageDataset": DatasetKind(lacks="LQ", list_key="meta_info", reads_hr_images=True),
}
"""Registered name -> what is known of it. A class under such a name that is somebody else's is not meant."""
