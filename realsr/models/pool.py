"""The training-pair pool of Real-ESRGAN: batches of pairs that were degraded at different times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor


class PairPool:
    """Keeps pairs of images and exchanges batches of new ones for random old ones.

    Some parameters are sampled once for a batch (resize factors, kinds of noise), so that a batch alone would
    be uniform. As long as a batch fits into the pool, it goes in and comes back as it is; then each new one
    takes the places of as many random pairs, which come back in its stead, as in BasicSR's
    ``RealESRGANModel``.

    Args:
        size: number of pairs, at least a batch; 0: no pool, batches come back as they are.
        generator: on the CPU, the only source of chance.
    """

    def __init__(self, size: int, generator: Generator) -> None:
        self.size = size
        self._generator = generator
        self._lq: Tensor | None = None
        self._gt: Tensor | None = None
        self._files: list[str] = []

    def __len__(self) -> int:
        return len(self._files)

    @torch.no_grad()
    def exchange(self, lq: Tensor, gt: Tensor, files: list[str]) -> tuple[Tensor, Tensor, list[str]]:
        """Put a batch in and take one out.

        Args:
            lq: shape (b, c, h, w).
            gt: shape (b, c, H, W).
            files: names of the b images.

        Returns:
            The same for the batch to train on; never memory of the pool.

        Raises:
            ValueError: if the batch is larger than the pool, or its images have another size.
        """
        batch = len(lq)
        if not self.size:
            return lq, gt, files
        if batch > self.size:
            raise ValueError(f"queue_size {self.size} must be at least the batch, {batch}")
        if self._lq is None or self._gt is None:
            self._lq, self._gt = (image.new_zeros(self.size, *image.shape[1:]) for image in (lq, gt))
        if self._lq.shape[1:] != lq.shape[1:] or self._gt.shape[1:] != gt.shape[1:]:
            raise ValueError(
                f"the pool holds pairs of {_sides(self._lq)} and {_sides(self._gt)} pixels, but the batch "
                f"has {_sides(lq)} and {_sides(gt)}: all crops must have the same size"
            )
        filled = len(self)
        if filled + batch <= self.size:
            self._lq[filled : filled + batch] = lq
            self._gt[filled : filled + batch] = gt
            self._files += files
            return lq, gt, files
        places = torch.randperm(filled, generator=self._generator)[:batch]
        on_device = places.to(lq.device)
        old_lq, old_gt = self._lq[on_device], self._gt[on_device]
        self._lq[on_device], self._gt[on_device] = lq, gt
        old_files = [self._files[place] for place in places]
        for place, file in zip(places, files, strict=True):
            self._files[place] = file
        return old_lq, old_gt, old_files

    def state_dict(self) -> dict[str, Any]:
        """All pairs, on the CPU: as bytes where that loses nothing (images as files hold them)."""
        if self._lq is None or self._gt is None:
            return {"size": self.size, "files": []}
        filled = len(self)
        return {
            "size": self.size,
            "files": list(self._files),
            "lq": _packed(self._lq[:filled]),
            "gt": _packed(self._gt[:filled]),
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str) -> None:
        """Take over the pairs of a state.

        Args:
            state: of `state_dict`.
            device: where to keep them.

        Raises:
            ValueError: if it is of a pool of another size.
        """
        if state["size"] != self.size:
            raise ValueError(f"a pool of {state['size']} pairs cannot become one of {self.size}")
        self._files = list(state["files"])
        self._lq = self._gt = None
        if self._files:
            self._lq = self._room(_unpacked(state["lq"]).to(device))
            self._gt = self._room(_unpacked(state["gt"]).to(device))

    def _room(self, images: Tensor) -> Tensor:
        """Images and room for the rest."""
        room = images.new_zeros(self.size, *images.shape[1:])
        room[: len(images)] = images
        return room


def _sides(images: Tensor) -> str:
    return f"{images.shape[-1]}x{images.shape[-2]}"


def _packed(images: Tensor) -> dict[str, Tensor]:
    """Images, and an empty tensor that remembers their dtype."""
    images = images.cpu().contiguous()
    as_bytes = (images * 255).round().clamp(0, 255).byte()
    dtype = images.new_empty(0)
    lossless = torch.equal(as_bytes.to(images.dtype) / 255, images)
    return {"images": as_bytes if lossless else images, "dtype": dtype}


def _unpacked(packed: Mapping[str, Tensor]) -> Tensor:
    images, dtype = packed["images"], packed["dtype"].dtype
    return images.to(dtype) / 255 if images.dtype == torch.uint8 else images
