"""The share of a process in a step's batch, and the parts in which it goes through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from basicsr.utils import get_root_logger
from torch import Tensor

from lmlt_arch.options.total_batch import known_launch, total_batch


class Part(NamedTuple):
    """A micro-batch.

    Attributes:
        last: whether it is the last one of the step.
        divisor: of its mean losses; those of all parts on all processes, averaged over the processes, are
            then the mean over the images of the step.
        tensors: its rows of each tensor.
    """

    last: bool
    divisor: float
    tensors: tuple[Tensor, ...]


class Shares:
    """Divides batches into parts: by `accumulation_steps`, or as `total_batch` asks for.

    Args:
        opt: BasicSR's options: `dist`, `rank`, `world_size` and those of the batch.
        accumulation_steps: in how many parts, if the options give no total to divide.
    """

    def __init__(self, opt: Mapping[str, Any], accumulation_steps: int) -> None:
        self._steps = accumulation_steps
        batch = total_batch(opt, known_launch(opt))
        self._batch = batch if batch is not None and batch.divided else None
        self._rank = opt.get("rank", 0)
        self._steps_begun, self._used = 0, False

    @property
    def several(self) -> bool:
        """Whether a step has several parts."""
        if self._batch is None:
            return self._steps > 1
        return self._batch.parts(self._batch.share()) > 1

    @property
    def divided(self) -> bool:
        """Whether the options give a total, which all processes divide."""
        return self._batch is not None

    def begin_step(self) -> None:
        """Warn, once, of a model whose step before took its images at once, so that shares count wrongly."""
        self._steps_begun += 1
        batch = self._batch
        if self._steps_begun != 2 or self._used or batch is None:
            return
        if self.several or batch.total % batch.processes:
            get_root_logger().warning(
                f"{batch}. But the steps of this model do not call self.shares.parts: all images of a "
                "process go through the network at once, and unequal shares count alike."
            )

    def rows(self, images: int) -> list[int]:
        """How many of a process's images are in each part.

        Raises:
            ValueError: `accumulation_steps` does not divide them.
        """
        if self._batch is not None:
            parts = min(images, self._batch.parts(images))
            return [images // parts + (number < images % parts) for number in range(parts)]
        if images % self._steps:
            raise ValueError(f"accumulation_steps: {self._steps} does not divide a batch of {images}")
        return [images // self._steps] * self._steps

    def parts(self, *tensors: Tensor) -> Iterator[Part]:
        """Cut this process's images into parts.

        Args:
            tensors: (B, ...), all of one B.

        Raises:
            ValueError: as of `rows`.
        """
        self._used = True
        images = len(tensors[0])
        rows = self.rows(images)
        columns = zip(*(tensor.split(rows) for tensor in tensors), strict=True)
        for number, (count, part) in enumerate(zip(rows, columns, strict=True), 1):
            yield Part(number == len(rows), images / count * self._divisor(), part)

    def _divisor(self) -> float:
        """Of the mean over this process's images, where shares are unequal; see `Part`."""
        batch = self._batch
        if batch is None or batch.total % batch.processes == 0:
            return 1
        return batch.total / (batch.share(self._rank) * batch.processes)
