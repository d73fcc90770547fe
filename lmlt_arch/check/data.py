"""Checks of an option file's datasets: missing, unpaired, unreadable and too small images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

from lmlt_arch.check.sources import Image, SourceError, encoded, samples_of
from lmlt_arch.data.images import ImageError, look
from lmlt_arch.metrics.psnr_ssim import WINDOW
from lmlt_arch.names import runs_ours
from lmlt_arch.options.checks.files import layout_mistakes
from lmlt_arch.options.checks.ownership import known_set
from lmlt_arch.options.looking import at, section, whole
from lmlt_arch.options.mistakes import NOTE, Mistake, Place
from lmlt_arch.options.total_batch import Launch, samples_of_epoch, total_batch

SAMPLE = 20
_BATCH = ("datasets", "train", "batch_size_per_gpu")
# Most samples of an epoch whose order fits in memory.
_LONGEST = 10**9
_T = TypeVar("_T")
_Sides = tuple[int, int]


def data_findings(opt: Mapping[str, Any], launch: Launch, *, everything: bool = False) -> list[Mistake]:
    """Mistakes in the datasets, and notes on them.

    Args:
        opt: the content of an option file without mistakes.
        launch: how the training is started.
        everything: decode all images instead of a sample of each dataset.
    """
    return [
        mistake
        for phase, data in section(opt, "datasets").items()
        for mistake in _of_set(opt, data, ("datasets", phase), launch, everything=everything)
    ]


def _of_set(
    opt: Mapping[str, Any], data: Mapping[str, Any], place: Place, launch: Launch, *, everything: bool
) -> list[Mistake]:
    if any(layout_mistakes(data, place)):
        return []  # reported with the files
    try:
        found = samples_of(data, known_set(data))
    except SourceError as error:
        return [Mistake((*place, error.key), str(error))]
    if found is None:
        return []
    findings = [Mistake(place, found.unmatched)] if found.unmatched else []
    if place[-1] == "train" and not found.unmatched:
        findings += _epoch_findings(opt, len(found.samples), launch)
    images = [image for sample in found.samples for image in sample]
    refused, of_headers = _header_findings(images, place)
    findings += of_headers
    good = [sample for sample in found.samples if not refused & {image.name for image in sample}]
    size = whole(data, "gt_size") if place[-1] == "train" else None
    scale = whole(opt, "scale") or 1
    for sample in _progress(_sample(good, everything=everything), place):
        sides, texts = _sides(sample)
        if len(sample) == 2 and not texts:
            texts = [*_wrong_pair(*sample, sides, scale, size, str(place[-1]))]
            findings += [] if place[-1] == "train" else _all_border(opt, sample[0].name, sides[0])
        findings += [Mistake(place, text) for text in texts]
    return findings


def _epoch_findings(opt: Mapping[str, Any], images: int, launch: Launch) -> Iterator[Mistake]:
    """An epoch whose order fits no memory, or one without a whole batch, from which stock models get none."""
    samples = samples_of_epoch(opt, images)
    place = (*_BATCH[:2], "dataset_enlarge_ratio")
    if samples > _LONGEST:
        yield Mistake(place, f"makes an epoch of {samples} samples, whose order fits no memory: lower it")
    batch = total_batch(opt, launch)
    if runs_ours(opt) or batch is None or samples >= batch.total:
        return
    ratio = math.ceil(batch.total / images)
    yield Mistake(
        _BATCH,
        f"{batch.total} images make a step, but an epoch has {samples}, and what does not fill a batch is "
        f"dropped: add images, write dataset_enlarge_ratio: {ratio}, or lower batch_size_per_gpu",
    )


def _header_findings(images: list[Image], place: Place) -> tuple[set[str], list[Mistake]]:
    """Names of images that cannot be used by their headers, and findings on these and on alpha channels."""
    by_reason: dict[str, list[str]] = {}
    opaque: list[str] = []
    for image, source in encoded(_progress(images, place)):
        reason, alpha = look(source)
        if reason is None and alpha:
            reason = _transparent(image)
            opaque += [] if reason else [image.name]
        if reason is not None:
            by_reason.setdefault(reason, []).append(image.name)
    findings = [Mistake(place, f"{_one_of(names)} {reason}") for reason, names in by_reason.items()]
    if opaque:
        text = f"{_one_of(opaque)} has an alpha channel, opaque everywhere, which is dropped"
        findings.append(Mistake(place, text, NOTE))
    return {name for names in by_reason.values() for name in names}, findings


def _transparent(image: Image) -> str | None:
    try:
        image.read()
    except ImageError as error:
        return str(error).removeprefix(f"{image.name} ")
    return None


def _one_of(names: list[str]) -> str:
    more = f" (as {len(names) - 1} more, which all have to be changed)" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def _sides(sample: Iterable[Image]) -> tuple[list[_Sides], list[str]]:
    """Height and width of each image, and messages on those that cannot be read."""
    sides, texts = [], []
    for image in sample:
        try:
            height, width = image.read().shape[:2]
            sides.append((height, width))
        except ImageError as error:
            texts.append(f"{error}. Replace or remove it")
    return sides, texts


def _all_border(opt: Mapping[str, Any], name: str, sides: _Sides) -> Iterator[Mistake]:
    """Metrics whose border leaves too little of an image."""
    for metric in section(opt, "val", "metrics"):
        least = WINDOW if "ssim" in str(at(opt, "val", "metrics", metric, "type")) else 1
        border = whole(opt, "val", "metrics", metric, "crop_border") or 0
        if min(sides) - 2 * border < least:
            text = (
                f"{name} is too small, {sides[1]}x{sides[0]} pixels: lower crop_border, or remove the image"
            )
            yield Mistake(("val", "metrics", metric), text)


def _wrong_pair(
    gt: Image, lq: Image, sides: list[_Sides], scale: int, size: int | None, phase: str
) -> Iterator[str]:
    (height, width), (h, w) = sides
    fits = (height, width) == (h * scale, w * scale)
    if phase != "train":  # ground truth is cropped then
        fits = (height // scale, width // scale) == (h, w)
    if not fits:
        yield (
            f"{gt.name} is {width}x{height} and {lq.name} is {w}x{h} pixels: ground truth must be {scale} "
            "times as wide and high (the scale); lmlt prepare makes such pairs"
        )
    elif size and min(height, width) < size:
        yield (
            f"{gt.name} is {width}x{height} pixels, smaller than gt_size, {size}: remove it or lower gt_size"
        )


def _sample(samples: list[_T], *, everything: bool) -> list[_T]:
    if everything or len(samples) <= SAMPLE:
        return samples
    return [samples[round(i * (len(samples) - 1) / (SAMPLE - 1))] for i in range(SAMPLE)]


def _progress(images: list[_T], place: Place) -> Iterable[_T]:
    return tqdm(images, desc=f"images of {place[-1]}", unit="image", leave=False, disable=None)
