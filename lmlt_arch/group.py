"""The processes that train together."""

from __future__ import annotations

import os
from typing import Any


def gathered(own: Any) -> list[Any]:
    """The values of all processes, by rank; all of them call this.

    Args:
        own: what can be pickled.
    """
    import torch.distributed

    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return found


def is_first_here() -> bool:
    """Whether this is the process that writes for all of those of its launcher's agent, so of its machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
