"""Sharing work among the processes that torchrun has started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

_T = TypeVar("_T")

# A process that is done waits for one with longer work; torch's default, half an hour, is too short.
_PATIENCE = timedelta(days=365)


@dataclass(frozen=True)
class Processes:
    """This process among others.

    Attributes:
        rank: number of this process.
        world_size: number of processes.
        local_rank: number of this process among those on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Processes:
        """The process that torchrun has started; a single one without torchrun."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(
            *(int(os.environ.get(name, default)) for name, default in zip(names, (0, 1, 0), strict=True))
        )

    def device(self, name: str) -> str:
        """The device for a name: each process takes a GPU of its own."""
        if name in ("auto", "cuda") and self.world_size > 1 and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return name

    def share(self, work: list[_T]) -> list[_T]:
        """This process's part of the work."""
        return work[self.rank :: self.world_size]

    def gathered(self, results: list[_T]) -> list[_T]:
        """The results of all processes; waits for all, since torchrun ends the others when one fails."""
        if self.world_size == 1:
            return results
        torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
        parts: list[list[_T]] = [[] for _ in range(self.world_size)]
        torch.distributed.all_gather_object(parts, results)
        torch.distributed.destroy_process_group()
        return [result for part in parts for result in part]
