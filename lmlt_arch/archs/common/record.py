"""A record in the state dict of a variant, of the arguments that the shapes of its tensors do not show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

RECORD = "variant"
"""Name of the buffer."""


def keep_record(network: nn.Module, record: Sequence[int]) -> None:
    """Add a record to a network's state dict; a state dict with another one is refused."""
    network.register_buffer(RECORD, torch.tensor(record, dtype=torch.int32, device="cpu"))

    def compare(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any, *more: Any) -> None:
        """State-dict pre-hook: loading would silently overwrite the buffer."""
        found = state.get(f"{prefix}{RECORD}")
        if found is not None and found.tolist() != list(record):
            more[-1].append(f"{RECORD}: the checkpoint records {found.tolist()}, this network is {[*record]}")

    network.register_load_state_dict_pre_hook(compare)
