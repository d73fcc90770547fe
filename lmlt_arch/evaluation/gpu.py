"""Description of a GPU, for reports."""

from __future__ import annotations

import subprocess

import torch


def describe_gpu(device: torch.device) -> str:
    """Name, memory, compute capability, driver and CUDA version of a CUDA device."""
    found = torch.cuda.get_device_properties(device)
    parts = [
        found.name,
        f"{found.total_memory / 2**30:.0f} GiB",
        f"compute capability {found.major}.{found.minor}",
        f"driver {_driver()}",
        f"CUDA {torch.version.cuda}",
    ]
    return ", ".join(parts)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return next(iter(done.stdout.split()), "unknown")
