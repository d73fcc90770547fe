"""What can go wrong in an evaluation."""

import torch


class UsageError(Exception):
    """A request that makes no sense; the message says what to give instead."""


class DataError(Exception):
    """Images that cannot be compared; the message names them and says what is wrong."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether that is what an error says, on any device."""
    # On a CPU it is a plain RuntimeError.
    kinds = (torch.cuda.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)
