"""The checkpoints that an option file names: whether they are there, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmlt_arch.options.looking import at, section
from lmlt_arch.options.mistakes import Mistake
from lmlt_arch.options.parts import build


def file_mistakes(opt: Mapping[str, Any]) -> list[Mistake]:
    """Checkpoints that are missing, damaged or of another network."""
    found = [*_missing(opt)]
    return found or [*_unfit(opt)]


def _missing(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    for key in ("pretrain_network_g", "pretrain_network_d", "resume_state", "vgg"):
        name = at(opt, "path", key)
        if isinstance(name, str) and not Path(name).expanduser().is_file():
            mend = (
                "write ~ to start from nothing" if key != "vgg" else "put the file there, or write its path"
            )
            yield Mistake(("path", key), f"there is no file {name} (seen from {Path.cwd()}): {mend}")


def _unfit(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    path = section(opt, "path")
    name, kind = path.get("pretrain_network_g"), at(opt, "network_g", "type")
    if not isinstance(name, str):
        return
    import torch

    from lmlt_arch.checkpoint import CheckpointError, describe_state, load_for_training, load_state

    place, file = ("path", "pretrain_network_g"), Path(name).expanduser()
    try:
        found: Any = describe_state(load_state(file)).arch
    except CheckpointError:
        found = None
    if found is not None and found.__name__ != kind:
        yield Mistake(place, f"{name} is a checkpoint of {found.__name__}, but network_g is {kind}")
        return
    try:
        with torch.random.fork_rng(devices=[]):
            network = build(opt, "network_g")
    except Exception:
        return  # named among the options
    strict, key = path.get("strict_load_g") is not False, path.get("param_key_g", "params")
    try:
        load_for_training(network, file, key=key, strict=strict)
    except CheckpointError as error:
        yield Mistake(place, str(error))
