"""What an iteration came to, read from the device when it has got there: not at once, which would idle it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


class Transfer:
    """Values on their way to the host.

    Args:
        values: of any device.
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
class Outcome:
    """An iteration that may still be running.

    Attributes:
        iteration: Its number.
        losses: This process's loss terms, on the device.
        averages: The averages over all processes, and where there are several, how many of them are to leave.
        lq: The batch.
        gt: The batch.
        files: The batch's names. Holding the batch also keeps its memory from being given to the next one.
    """

    iteration: int
    losses: Mapping[str, Tensor]
    averages: Transfer
    lq: Tensor
    gt: Tensor
    files: list[str]

    def read(self) -> tuple[OrderedDict[str, float], bool]:
        """Wait for the averages of the terms, and whether any process is to leave."""
        values = self.averages.read()
        leaving = values[len(self.losses) :]
        return OrderedDict(zip(self.losses, values, strict=False)), any(leaving)
