"""The checkpoints that an option file names: whether they are there, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmlt_arch.options.looking import at
from lmlt_arch.options.mistakes import Mistake
from lmlt_arch.options.parts import build_on_meta


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
    name = at(opt, "path", "pretrain_network_g")
    if not isinstance(name, str):
        return
    from lmlt_arch.checkpoint import CheckpointError, describe_state, load_state

    place = ("path", "pretrain_network_g")
    key = at(opt, "path", "param_key_g")
    try:
        state = load_state(
            Path(name).expanduser(), key=None if name.endswith(".safetensors") else key or None
        )
    except CheckpointError as error:
        yield Mistake(place, str(error))
        return
    try:
        found: Any = describe_state(state).arch
    except CheckpointError:
        found = None
    kind = at(opt, "network_g", "type")
    if found is not None and found.__name__ != kind:
        yield Mistake(place, f"{name} is a checkpoint of {found.__name__}, but network_g is {kind}")
        return
    try:
        network = build_on_meta(opt, "network_g")
    except Exception:
        return  # reported elsewhere
    own = network.state_dict()
    if at(opt, "path", "strict_load_g") is not False and not set(own) & set(state):
        yield Mistake(place, f"{name} holds nothing of {kind}; its tensors start {', '.join([*state][:3])}")
