"""The base of both stages of real-world training: LQ images are made from ground truth."""

# mypy: allow-subclassing-any
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Generator, Tensor

from lmlt_arch.models.esc_model import ESCModel
from lmlt_arch.models.training_state import RankState
from lmlt_arch.options import OptionError, read_degradation, read_gt_usm, read_scale
from lmlt_arch.options.sections import QUEUE_SIZE
from realsr.degradation import Degradation
from realsr.models.pairs import degraded_crops, validation_pair
from realsr.models.pool import PairPool


class RealWorldModel(ESCModel):
    """Degrades the ground truth that it is fed, as BasicSR's Real-ESRGAN models do: the base of both stages.

    A batch with `lq` is a pair of one's own and is used as it is. A batch of `gt` alone is degraded: in
    training by the order blur, resize, noise, JPEG, twice, with random parameters, then cropped to `gt_size`
    and exchanged in a pool of pairs; in validation with parameters that depend on `val: degradation_seed` and
    the file's name alone, so that the figures of different iterations and runs can be compared. The kernels
    that BasicSR's `RealESRGANDataset` samples are not used; the model samples its own.

    Everything random comes from one generator on the CPU, seeded by `manual_seed` and the rank.

    Keys of the option file: those of BasicSR's models, `degradation` (see `realsr.degradation`), and:

        gt_size: side of the crops.
        queue_size: pairs in the pool of each process; default 180, 0 for none.
        high_order_degradation: false: the training data are pairs.

    Raises:
        ValueError: an option is missing, misspelled or impossible.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        self._validating = False
        self._degradation: Degradation | None = None
        self._generator = Generator().manual_seed(int(self.opt.get("manual_seed") or 0) + self.opt["rank"])
        self._pool = PairPool(int(self.opt.get("queue_size", QUEUE_SIZE)), self._generator)
        self._synthesizes = self.is_train and self.opt.get("high_order_degradation", True) is not False
        if self._synthesizes:
            self._check_synthesis()

    def _check_synthesis(self) -> None:
        """Find at the start what would stop the first iteration."""
        self._make_degradation()
        scale, size = self.opt["scale"], self.opt.get("gt_size")
        if not isinstance(size, int) or size < 1 or size % scale:
            raise ValueError(f"gt_size must be a multiple of the scale, {scale}; got {size!r}")
        if self.shares.divided:
            return
        data = (self.opt.get("datasets") or {}).get("train") or {}
        processes_in_one = 1 if self.opt["dist"] else max(1, self.opt["num_gpu"])
        batch = data.get("batch_size_per_gpu", 1) * processes_in_one
        if self._pool.size % batch:
            raise ValueError(f"queue_size {self._pool.size} must be a multiple of the batch, {batch}")

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: `gt` (B, 3, H, W) in [0, 1], `lq` unless it is to be made, and the files' names.

        Raises:
            ValueError: `lq` is missing where it cannot be made, or the images are too small.
        """
        training = self.is_train and not self._validating
        if "lq" in data:
            super().feed_data(data)
            if training:
                self.take_targets()
            return
        self.files = [str(name) for name in data["gt_path"]]
        if training and not self._synthesizes:
            raise ValueError(
                "high_order_degradation is false, so training needs pairs: a dataset with LQ images, such "
                f"as PairedImageDataset; {self.files[0]} has none"
            )
        with torch.no_grad():
            gt = data["gt"].to(self.device)
            lq, gt = self._training_pairs(gt) if training else self._validation_pair(gt)
            self.lq, self.gt = self.to_device(lq), self.to_device(gt)
            if training:
                self.take_targets()

    def sources(self, gt: Tensor) -> tuple[Tensor, Tensor]:
        """What is degraded, and what is the target that goes into the pool: both ground truth as it comes."""
        return gt, gt

    def take_targets(self) -> None:
        """Prepare what the losses need from `self.gt`."""

    def _training_pairs(self, gt: Tensor) -> tuple[Tensor, Tensor]:
        source, target = self.sources(gt)
        # Some parameters are sampled once for a batch: for each part, which could be another process's.
        rows = self.shares.rows(len(gt)) if self.shares.divided else [len(gt)]
        degradation, size, files = self._make_degradation(), self.opt["gt_size"], iter(self.files)
        pairs = []
        for part, of_part in zip(target.split(rows), source.split(rows), strict=True):
            pair = degraded_crops(part, degradation, size, self._generator, source=of_part)
            pairs.append(self._pool.exchange(*pair, [*islice(files, len(part))]))
        lq, target = (torch.cat(images) for images in ([p[0] for p in pairs], [p[1] for p in pairs]))
        self.files = [name for *_, names in pairs for name in names]
        return lq, target

    def _validation_pair(self, gt: Tensor) -> tuple[Tensor, Tensor]:
        try:
            degradation = self._make_degradation()
        except OptionError as error:
            raise ValueError(
                f"{self.files[0]} comes without an LQ image, and the options do not say how to make one: "
                f"{error}"
            ) from error
        seed = int((self.opt.get("val") or {}).get("degradation_seed") or 0)
        return validation_pair(gt, degradation, seed, self.files, sharpened=read_gt_usm(self.opt))

    def _make_degradation(self) -> Degradation:
        if self._degradation is None:
            self._degradation = Degradation(read_degradation(self.opt), scale=read_scale(self.opt))
        return self._degradation

    # Validation

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validate on one process."""
        with self._in_validation():
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def dist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validate on all processes."""
        with self._in_validation():
            super().dist_validation(dataloader, current_iter, tb_logger, save_img)

    @contextmanager
    def _in_validation(self) -> Iterator[None]:
        before, self._validating = self._validating, True
        try:
            yield
        finally:
            self._validating = before

    # Saving and resuming

    def rank_state(self) -> RankState:
        """What this process holds for itself: also its generator and its pool."""
        state: RankState = super().rank_state()
        return {**state, "generator": self._generator.get_state(), "pool": self._pool.state_dict()}

    def load_rank_state(self, state: RankState) -> None:
        """Go on from a state of `rank_state`."""
        super().load_rank_state(state)
        if "generator" in state:
            self._generator.set_state(state["generator"])
        try:
            self._pool.load_state_dict(state.get("pool") or self._pool.state_dict(), self.device)
        except ValueError as error:
            get_root_logger().warning(f"The pool of training pairs is filled again: {error}.")
