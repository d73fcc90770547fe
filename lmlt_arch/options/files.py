"""The files that an option file names: whether checkpoints are there and fit, and how LMDBs are laid out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmlt_arch.options.looking import RAW_SET, at, section
from lmlt_arch.options.mistakes import Mistake, Place
from lmlt_arch.options.ownership import known_set
from lmlt_arch.options.parts import build


def file_mistakes(opt: Mapping[str, Any]) -> list[Mistake]:
    """Checkpoints that are missing, damaged or of another network, and LMDBs of the wrong layout."""
    return [found for found in file_findings(opt) if not found.is_note]


def file_findings(opt: Mapping[str, Any]) -> list[Mistake]:
    """The same with notes."""
    found = [*_missing(opt)]
    found += [] if found else _unfit(opt)
    for phase in section(opt, "datasets"):
        found += layout_mistakes(section(opt, "datasets", phase), ("datasets", phase))
    return found


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


def layout_mistakes(data: Mapping[str, Any], place: Place) -> Iterator[Mistake]:
    """LMDBs of raw pixels that a data set takes for PNG files, and the other way round."""
    from lmlt_arch.data.lmdb_store import StoreError, read_lmdb_info

    for key in ("dataroot_gt", "dataroot_lq") if known_set(data) else ():
        root = data.get(key)
        if at(data, "io_backend", "type") != "lmdb" or not isinstance(root, str):
            continue
        try:
            is_raw = read_lmdb_info(Path(root).expanduser()).layout == "raw"
        except StoreError as error:
            yield Mistake((*place, key), str(error))
            continue
        except OSError:
            continue  # named where the data are looked at
        if is_raw and data.get("type") != RAW_SET:
            yield Mistake((*place, key), f"{root} holds raw pixels: write type: {RAW_SET}")
        elif data.get("type") == RAW_SET and not is_raw:
            mend = f"make a raw LMDB of it by `lmlt raw {root}`, or write type: PairedImageDataset"
            yield Mistake((*place, key), f"{root} holds PNG files: {mend}")
