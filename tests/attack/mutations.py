"""Part 2: files changed at random: images, checkpoints, LMDBs, option files.

Survived is the right result, or one clear error and an exit status that is not 0: no traceback, no signal, no
hang, memory bounded. Of option files that are accepted, a sample trains an iteration.
"""

from __future__ import annotations

import copy
import io
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import yaml
from helpers.broken_options import EXACT, PLAUSIBLE, at, places
from helpers.small.options import paired_options

from attack.commands import fresh, noise, opened
from attack.core import Trial, pick, run

NAME = "mutations"
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpg": {"quality": 90},
    "bmp": {},
    "tif": {},
    "webp": {"lossless": True},
    "gif": {},
}
# Of accepted option files, one in so many trains.
_TRAINED = 3


def trials(home: Path, draw: random.Random, dearest: float) -> Iterator[Trial]:
    """The four kinds in turn."""
    work, inputs = home / "mutated", home / "inputs"
    kinds = [_image, _checkpoint, _lmdb, _options, _option_text]
    originals = _originals(home / "originals", inputs)
    while True:
        for kind in kinds:
            seed = draw.randrange(2**32)
            name, attacked = kind(random.Random(seed), originals, inputs)
            yield Trial(f"{name}: {seed}", partial(_attacked, attacked, work))


def _attacked(attacked: Callable[[Path], str | None], work: Path) -> str | None:
    return attacked(fresh(work))


def _originals(folder: Path, inputs: Path) -> Path:
    """What is changed: images of every kind, checkpoints, LMDBs."""
    from attack.core import run as run_command
    from lmlt_arch.checkpoints.load import load_state

    folder.mkdir()
    for number, (ending, options) in enumerate(_FORMATS.items()):
        noise(number, 24, 20).save(folder / f"image.{ending}", **options)
    shutil.copy(inputs / "x2.pth", folder)
    for ending in ("_lzma.tif", "_16.png"):
        _deep(folder / f"image{ending}")
    for arguments in (
        ["convert", str(inputs / "x2.pth"), "-o", "x2.safetensors"],
        ["prepare", str(inputs / "hr"), "-o", ".", "--scale", "2", "--lmdb", "--raw", "--workers", "0"],
    ):
        done = run_command(partial(_lmlt, *arguments), folder)
        if done.status:
            raise RuntimeError(done.said)
    torch.save(dict(load_state(folder / "x2.pth")), folder / "tensors.pt")
    return folder


def _deep(path: Path) -> None:
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 65536, (20, 24, 3), dtype=np.uint16)
    if path.suffix == ".png":
        import cv2

        cv2.imwrite(str(path), pixels)
    else:
        import tifffile

        tifffile.imwrite(path, pixels, compression="zlib", photometric="rgb")


def _lmlt(*arguments: str) -> object:
    from lmlt_arch.cli import main

    return main([*arguments])


def _image(draw: random.Random, originals: Path, inputs: Path) -> tuple[str, Callable[[Path], str | None]]:
    source = draw.choice(sorted(originals.glob("image*")))
    data = pick(draw, source.read_bytes())

    def attacked(work: Path) -> str | None:
        file = work / source.name
        file.write_bytes(data)
        arguments = [
            "upscale",
            "--model",
            str(inputs / "x2.pth"),
            "--device",
            "cpu",
            file.name,
            "-o",
            "out.png",
        ]
        done = run(partial(_lmlt, *arguments), work)
        if fault := done.fault():
            return fault
        if done.status:
            return "an error, and an output" if (work / "out.png").exists() else None
        try:
            width, height = opened(work / "out.png")
            size = opened(file)
        except Exception as error:
            return f"done, and yet it cannot be decoded: {error!r}"
        return None if {width, height} == {2 * side for side in size} else f"{size} became {(width, height)}"

    return f"image {source.suffix}", attacked


def _checkpoint(
    draw: random.Random, originals: Path, inputs: Path
) -> tuple[str, Callable[[Path], str | None]]:
    source = originals / draw.choice(("x2.pth", "x2.safetensors"))
    data = pick(draw, source.read_bytes())

    def attacked(work: Path) -> str | None:
        file = work / source.name
        file.write_bytes(data)
        done = run(partial(_lmlt, "convert", file.name, "-o", "out.pth"), work)
        if fault := done.fault():
            return fault
        if done.status:
            return "an error, and an output" if (work / "out.pth").exists() else None
        expected = torch.load(originals / "tensors.pt", weights_only=True)
        state = torch.load(work / "out.pth", weights_only=True)
        found = state.get("params", state)
        wrong = [key for key in expected if key not in found or not torch.equal(expected[key], found[key])]
        return f"taken with other weights: {', '.join(wrong[:2])}" if wrong else None

    return f"checkpoint {source.suffix}", attacked


def _lmdb(draw: random.Random, originals: Path, inputs: Path) -> tuple[str, Callable[[Path], str | None]]:
    source = draw.choice(sorted(originals.glob("*HR*.lmdb")))
    name = draw.choice(("data.mdb", "meta_info.txt"))
    data = pick(draw, (source / name).read_bytes())

    def attacked(work: Path) -> str | None:
        shutil.copytree(source, work / source.name)
        (work / source.name / name).write_bytes(data)
        done = run(partial(_read_lmdb, work / source.name), work)
        if (fault := done.fault()) or done.status or "raw" in source.name:
            return fault  # raw pixels have no checksum
        run(partial(_read_lmdb, source), work.parent)
        found, expected = (folder / "pixels.txt" for folder in (work, work.parent))
        # A list may name fewer images.
        other = {*found.read_text().splitlines()} - {*expected.read_text().splitlines()}
        return f"other pixels, and no error: {min(other)}" if other else None

    return f"LMDB {name}", attacked


def _read_lmdb(folder: Path) -> int:
    """Read every image as a dataset does, telling errors as commands do."""
    from lmlt_arch.check.sources import _lmdb, _raw
    from lmlt_arch.data.images import ImageError
    from lmlt_arch.data.listing import DatasetError

    try:
        images = _raw(folder) if "raw" in folder.name else _lmdb(folder)
        digests = [f"{key} {sha256(image.read().tobytes()).hexdigest()}" for key, image in images.items()]
        Path("pixels.txt").write_text("\n".join(digests))
    except (DatasetError, ImageError, OSError) as error:
        print(error)
        return 1
    return 0


def _options(draw: random.Random, originals: Path, inputs: Path) -> tuple[str, Callable[[Path], str | None]]:
    """Values and keys changed, as a person's slips and worse would."""
    seed = draw.randrange(2**32)

    def attacked(work: Path) -> str | None:
        inner = random.Random(seed)
        opt = paired_options(work)
        opt["train"]["total_iter"] = 1
        opt["logger"]["save_checkpoint_freq"] = 1
        for _ in range(inner.choice((1, 1, 2))):
            _change(inner, opt)
        text = yaml.safe_dump(opt, sort_keys=False, allow_unicode=True)
        return _checked(work, text.encode(errors="replace"), trained=inner.randrange(_TRAINED) == 0)

    return "options", attacked


def _option_text(
    draw: random.Random, originals: Path, inputs: Path
) -> tuple[str, Callable[[Path], str | None]]:
    """The bytes of the file changed."""
    seed = draw.randrange(2**32)

    def attacked(work: Path) -> str | None:
        inner = random.Random(seed)
        opt = paired_options(work)
        opt["train"]["total_iter"] = 1
        data = pick(inner, yaml.safe_dump(opt, sort_keys=False).encode())
        return _checked(work, data, trained=inner.randrange(_TRAINED) == 0)

    return "text of options", attacked


def _checked(work: Path, data: bytes, *, trained: bool) -> str | None:
    (work / "x.yml").write_bytes(data)
    done = run(partial(_lmlt, "check", "-opt", "x.yml", "--no-timing", "--all"), work)
    if fault := done.fault():
        return f"check: {fault}"
    if done.status or not trained or _is_dear(data):
        return None
    done = run(_train, work)
    if fault := done.fault():
        return f"accepted, and its training: {fault}"
    if done.status:
        return f"accepted, and its training ends with {done.status}: {' '.join(done.said[-300:].split())}"
    return None


def _is_dear(data: bytes) -> bool:
    """Whether a training would start processes, compile, or belong to somebody else."""
    opt = yaml.safe_load(io.BytesIO(data))
    try:
        loader = opt["datasets"]["train"].get("num_worker_per_gpu")
        dear = loader or opt["train"].get("compile") or opt["logger"].get("use_tb_logger")
        return bool(dear) or opt["model_type"] != "LMLTModel" or opt["train"]["total_iter"] > 4
    except (AttributeError, KeyError, TypeError):
        return True


def _train() -> object:
    import sys

    from lmlt_arch.hook import launch

    sys.argv = ["train.py", "-opt", "x.yml"]
    return launch.main("train")


def _change(draw: random.Random, opt: dict[str, Any]) -> None:
    place = draw.choice(places(opt))
    parent, key = at(opt, place[:-1]), place[-1]
    match draw.choice(("exact", "likely", "likely", "delete", "rename", "list", "copy")):
        case "exact":
            parent[key] = copy.deepcopy(draw.choice(EXACT))
        case "likely":
            parent[key] = copy.deepcopy(draw.choice(PLAUSIBLE))
        case "delete":
            del parent[key]
        case "rename" if isinstance(parent, dict):
            parent[f"{key}s"] = parent.pop(key)
        case "list":
            parent[key] = [parent[key]]
        case _:
            parent[key] = copy.deepcopy(at(opt, draw.choice(places(opt))))
