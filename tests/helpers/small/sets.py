"""Small checkpoints to resume from, as a training leaves them, and damage to their files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from lmlt_arch.checkpoints.sets import write_manifest

NETWORKS = ("net_g", "net_d")


def write_set(run: Path, iteration: int, *, manifest: bool = True) -> dict[str, Path]:
    """A set of a GAN's training below the folder of a run; gives its files."""
    random = torch.Generator().manual_seed(iteration)
    files = {
        "state": run / "training_states" / f"{iteration}.state",
        "rank": run / "training_states" / f"{iteration}.rank0.pth",
        **{name: run / "models" / f"{name}_{iteration}.pth" for name in NETWORKS},
    }
    optimizer = {"state": {0: {"exp_avg": torch.rand(700, generator=random)}}, "param_groups": []}
    contents = {
        "state": {"epoch": 0, "iter": iteration, "optimizers": [optimizer], "schedulers": []},
        "rank": {"rng": {"torch": torch.rand(700, generator=random)}},
        **{name: {"params": {"weight": torch.rand(700, generator=random)}} for name in NETWORKS},
    }
    for name, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(contents[name], path)
    if manifest:
        write_manifest(run / "training_states", iteration, files.values())
    return files


def flip(path: Path) -> None:
    """Change one bit of a tensor."""
    with zipfile.ZipFile(path) as archive:
        tensor = next(entry for entry in archive.infolist() if "/data/" in entry.filename)
    content = bytearray(path.read_bytes())
    start = tensor.header_offset + 30
    name, extra = (int.from_bytes(content[start + at : start + at + 2], "little") for at in (-4, -2))
    content[start + name + extra + tensor.file_size // 2] ^= 4
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 256 : middle + 256] = bytes(512)
    path.write_bytes(content)


class _Code:
    """What runs code where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def has_run(path: Path) -> bool:
    """Whether what `code` put into a file was run."""
    return path.with_suffix(".ran").exists()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "cut": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "zeroed block": _zero,
    "flipped bit": flip,
    "foreign": lambda path: torch.save({"of": torch.ones(700)}, path),
    "code": lambda path: torch.save({"params": _Code(path.with_suffix(".ran"))}, path),
}
