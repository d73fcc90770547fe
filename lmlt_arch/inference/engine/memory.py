"""Free memory, and the memory that a network takes for each pixel."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Side of the image that a network's memory is measured on, in pixels of lq.
_PROBE = 64

# Assumed to be free where the system does not report it (Windows).
_UNKNOWN = 4 * 2**30


def available_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a device, limits of containers and processes considered."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return min(_system(), *_container(), *_process())


def bytes_per_pixel(network: Callable[[Tensor], Tensor], device: torch.device) -> float:
    """Peak of the memory that a forward pass takes for each input pixel, input and output included."""
    image = torch.rand(1, 3, _PROBE, _PROBE, device=device)
    if device.type == "cuda":
        # The allocator also counts paths that a dispatch mode would turn off.
        with torch.no_grad():
            # Memory that is taken once and kept exists from the second run on.
            network(image)
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            network(image)
        return (torch.cuda.max_memory_allocated(device) - before + image.nbytes) / _PROBE**2
    # Code that is compiled under a dispatch mode would stay compiled for it.
    with torch.compiler.set_stance("force_eager"), PeakMemory() as peak, torch.no_grad():
        network(image)
    return (peak.most + image.nbytes) / _PROBE**2


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means lack of memory, on any device."""
    # On a CPU it is a plain RuntimeError.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


class PeakMemory(TorchDispatchMode):
    """Adds up the storages that operators make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._now = 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._note(result)
        return results

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place not in self._users:
            self._users[place] = 0
            self._now += size
            self.most = max(self.most, self._now)
        self._users[place] += 1
        weakref.finalize(tensor, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._users[place] -= 1
        if not self._users[place]:
            del self._users[place]
            self._now -= size


def _system() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, ValueError, OSError):
        # Without /proc (macOS): half of the installed memory.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _UNKNOWN


def _container() -> list[int]:
    """Bytes that control groups leave, versions 2 and 1."""
    found = []
    for limit, usage, statistics in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            groups = Path("/sys/fs/cgroup")
            free = int((groups / limit).read_text()) - int((groups / usage).read_text())
            # Cached files count as used until another program needs the memory.
            cached = dict(line.split() for line in (groups / statistics).read_text().splitlines())
            found.append(free + int(cached.get("inactive_file", 0)))
    return found


def _process() -> list[int]:
    """Bytes that the address space may still grow by (`ulimit -v`)."""
    with contextlib.suppress(ImportError, OSError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            return [limit - pages * resource.getpagesize()]
    return []
