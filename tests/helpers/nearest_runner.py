"""A runner that repeats pixels, so that its results are known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmlt_arch.inference.runner import Runner


class Nearest(Runner):
    """Upscales by repeating pixels, so that every result is known."""

    def __init__(self, scale: int = 2, most: float = float("inf")) -> None:
        self.scale, self.multiple = scale, 1
        self.device = torch.device("cpu")
        self.most = most
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, lq: Tensor) -> Tensor:
        assert lq.dtype == torch.float32
        self.batches.append(tuple(lq.shape))
        if lq.shape[-2] * lq.shape[-1] > self.most:
            raise torch.OutOfMemoryError
        return F.interpolate(lq, scale_factor=self.scale)

    def memory(self) -> float:
        return 12 * (1 + self.scale**2)
