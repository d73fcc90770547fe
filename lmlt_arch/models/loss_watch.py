"""Deferred reading of an iteration's losses, so that the host never waits for the GPU."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmlt_arch.data.images import encode_png
from lmlt_arch.files import OutputError, make_folder, write_atomic
from lmlt_arch.group import ENDING
from lmlt_arch.models.training_state import save_whole

Losses = OrderedDict[str, Tensor]
"""Loss terms by their names in the log: scalars, detached, on the device."""


class Transfer:
    """A copy of values to the host, made by the device after its queued work.

    Args:
        values: (N,), on any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._values = values
        if values.is_cuda:
            self._values = values.to("cpu", non_blocking=True)  # into page-locked memory
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> list[float]:
        """Wait for the values."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found: list[float] = self._values.tolist()
        return found


@dataclass(frozen=True)
class Iteration:
    """An iteration whose work on the device may still be running.

    Attributes:
        number: its number.
        losses: this process's loss terms.
        averages: the terms averaged over all processes; with several processes, also the shares of them
            that each signal of `ENDING` has asked to end the run.
        lq: the batch, (B, 3, h, w).
        gt: its ground truth, (B, 3, H, W).
        files: the batch's names. Holding the batch also keeps its memory from being given to the next one.
    """

    number: int
    losses: Mapping[str, Tensor]
    averages: Transfer
    lq: Tensor
    gt: Tensor
    files: list[str]


class LossWatch:
    """Reads the losses of each iteration when the next one is queued, and stops a run that diverges.

    Args:
        opt: BasicSR's options: `dist`, `rank`, `world_size` and `path`.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self._opt = opt
        self.last: Iteration | None = None
        """The iteration that was queued last."""
        self.log: OrderedDict[str, float] = OrderedDict()
        """The losses that were read last, averaged over all processes."""

    def add(
        self, number: int, losses: Losses, lq: Tensor, gt: Tensor, files: list[str], *, came: Signals | None
    ) -> Signals | None:
        """Queue an iteration and read the one before it.

        Args:
            number: of the iteration.
            losses: this process's terms.
            lq: the batch, (B, 3, h, w).
            gt: its ground truth, (B, 3, H, W).
            files: its names.
            came: the signal that has asked this process to end the run.

        Returns:
            The signal that had come to any of several processes by the iteration before, the same on all.

        Raises:
            FloatingPointError: a term of the iteration before is infinite or not a number, on any process.
        """
        averages = Transfer(self._averaged(losses, came))
        before, self.last = self.last, Iteration(number, losses, averages, lq, gt, files)
        return self.read(before) if before is not None else None

    def read(self, iteration: Iteration) -> Signals | None:
        """Wait for an iteration and take its losses into `log`; returns the signal that asks to end the run.

        Raises:
            FloatingPointError: as of `add`.
        """
        values = iteration.averages.read()
        shares = values[len(iteration.losses) :]
        self.log = OrderedDict(zip(iteration.losses, values, strict=False))
        if not all(math.isfinite(value) for value in self.log.values()):
            self._refuse(iteration)
        return next((each for each, share in zip(ENDING, shares, strict=False) if share), None)

    def _averaged(self, losses: Losses, came: Signals | None) -> Tensor:
        """Losses averaged over all processes and the shares of those that end the run, in one exchange."""
        values = torch.stack([*(loss.double() for loss in losses.values())])
        if self._opt["dist"]:
            # Filled on the device: a copy from the host would wait for it.
            shares = [torch.full_like(values[:1], float(came == each)) for each in ENDING]
            values = torch.cat([values, *shares])
            torch.distributed.all_reduce(values)
            values /= self._opt["world_size"]
        return values

    def _refuse(self, iteration: Iteration) -> None:
        number, files = iteration.number, iteration.files
        bad = {name: loss.item() for name, loss in iteration.losses.items() if not torch.isfinite(loss)}
        if not bad:
            raise FloatingPointError(f"iteration {number}: a loss of another process is not finite")
        terms = ", ".join(f"{name} is {value}" for name, value in bad.items())
        path = self._opt["path"]
        run = Path(path.get("experiments_root") or Path(path["models"]).parent)
        kept = keep_batch(
            run / f"nonfinite_{number}_rank{self._opt['rank']}", iteration.lq, iteration.gt, files
        )
        raise FloatingPointError(
            f"iteration {number}: {terms}. The batch was {', '.join(files) or 'without names'}; "
            f"{kept}. Resume from an earlier checkpoint with a smaller learning rate or with 'grad_clip' "
            "under 'train'; if it stays, look for damaged training images"
        )


def keep_batch(folder: Path, lq: Tensor, gt: Tensor, files: list[str]) -> str:
    """Write a batch as `batch.pth` (exact) and as `lq.png` and `gt.png` (images side by side).

    Args:
        folder: made if it is missing.
        lq: (B, 3, h, w), nominally in [0, 1].
        gt: (B, 3, H, W).
        files: names of the images.

    Returns:
        Half a sentence for an error message: where the batch is, or why it could not be kept.
    """
    try:
        make_folder(folder)
        save_whole({"lq": lq.cpu(), "gt": gt.cpu(), "files": files}, folder / "batch.pth")
        for name, images in (("lq", lq), ("gt", gt)):
            write_atomic(folder / f"{name}.png", encode_png(_side_by_side(images), compression_level=6))
    except OutputError as error:
        return f"it could not be kept ({error})"
    return f"it is kept in {folder}"


def _side_by_side(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    row = images.detach().float().nan_to_num(0).clamp(0, 1).cpu().mul(255).round().byte()
    return np.ascontiguousarray(row.permute(2, 0, 3, 1).flatten(1, 2).numpy())
