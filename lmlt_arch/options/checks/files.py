"""Checks of the files that an option file names: checkpoints and the layouts of LMDBs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmlt_arch.names import holds_ours, registered_class
from lmlt_arch.options.checks.ownership import is_stock_sr_model, is_understood, known_set
from lmlt_arch.options.checks.parts import build
from lmlt_arch.options.checks.resuming import resume_findings
from lmlt_arch.options.datasets import PAIRS, RAW_SET
from lmlt_arch.options.looking import at, path_of, section
from lmlt_arch.options.mistakes import Mistake, Place


def file_mistakes(opt: Mapping[str, Any]) -> list[Mistake]:
    """Checkpoints that are missing, damaged or of another network, and LMDBs of the wrong layout."""
    return [found for found in file_findings(opt) if not found.is_note]


def file_findings(opt: Mapping[str, Any]) -> list[Mistake]:
    """The mistakes of `file_mistakes`, and notes."""
    found = [*_missing(opt)]
    found += [] if found else [*_unfit(opt), *resume_findings(opt)]
    for phase in section(opt, "datasets"):
        found += layout_mistakes(section(opt, "datasets", phase), ("datasets", phase))
    return found


def _missing(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    for key in ("pretrain_network_g", "pretrain_network_d", "resume_state", "vgg"):
        name = at(opt, "path", key)
        unread = key == "resume_state" and opt.get("auto_resume")
        if isinstance(name, str) and not unread and not _is_file(name):
            fix = "write ~ to start from nothing" if key != "vgg" else "put the file there, or write its path"
            yield Mistake(("path", key), f"there is no file {name} (seen from {Path.cwd()}): {fix}")


def _is_file(name: str) -> bool:
    try:
        return path_of(name).is_file()
    except (OSError, ValueError):  # no name of any file
        return False


def _unfit(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Checkpoints that their networks cannot take over."""
    for short in ("g", "d"):
        name = at(opt, "path", f"pretrain_network_{short}")
        resumed = at(opt, "path", "resume_state") is not None  # other networks are loaded then
        read = short == "g" or section(opt, "network_d")
        if isinstance(name, str) and read and not resumed and is_understood(opt):
            yield from _unfit_network(opt, short, name)


def _unfit_network(opt: Mapping[str, Any], short: str, name: str) -> Iterator[Mistake]:
    import torch

    from lmlt_arch.checkpoints.load import CheckpointError, MissingKeyError, load_for_training

    place, network = ("path", f"pretrain_network_{short}"), f"network_{short}"
    other = _of_another_network(opt, network, name)
    if other:
        yield Mistake(place, other)
        return
    try:
        with torch.random.fork_rng(devices=[]):
            built = build(opt, network)
    except Exception:
        return  # named among the options
    path = section(opt, "path")
    strict, key = path.get(f"strict_load_{short}") is not False, path.get(f"param_key_{short}", "params")
    try:
        load_for_training(built, path_of(name), key=key, strict=strict)
    except MissingKeyError as error:
        yield Mistake(("path", f"param_key_{short}"), str(error))
    except CheckpointError as error:
        yield Mistake(place, str(error))
    else:
        if is_stock_sr_model(opt) and (text := _unread_by_stock(name, key)):
            yield Mistake(("path", f"param_key_{short}"), text)


def _unread_by_stock(name: str, key: str | None) -> str | None:
    """The mistake if our models find the weights in a checkpoint and BasicSR's own model does not."""
    from lmlt_arch.checkpoints.load import state_keys
    from lmlt_arch.checkpoints.safetensors_file import is_safetensors

    if is_safetensors(name):
        return None
    keys = state_keys(path_of(name))
    if (key is None and not keys) or key in keys or (key is not None and "params" in keys):
        return None
    where = f"lie under {', '.join(keys)}" if keys else "lie in it without a key"
    fix = keys[0] if keys else "~"
    return f"SRModel looks for {key or '~'} in {name}, whose weights {where}: write {fix}"


def _of_another_network(opt: Mapping[str, Any], network: str, name: str) -> str | None:
    """The mistake if a checkpoint is of one of our networks, but of another one than the options name."""
    from lmlt_arch.checkpoints.load import CheckpointError, describe_state, load_state

    kind = at(opt, network, "type")
    wanted = registered_class("ARCH_REGISTRY", str(kind))
    try:
        found: Any = describe_state(load_state(path_of(name))).arch
    except CheckpointError:
        return None
    # A class made from ours, or a copy of it under another name, may well take it.
    ours = holds_ours("ARCH_REGISTRY", kind)
    if found is wanted or (network == "network_g" and not ours):
        return None
    return f"{name} is a checkpoint of {found.__name__}, but {network} is {kind}"


def layout_mistakes(data: Mapping[str, Any], place: Place) -> Iterator[Mistake]:
    """LMDBs of raw pixels that a dataset takes for PNG files, and the other way round."""
    from lmlt_arch.data.lmdb.store import StoreError, read_lmdb_info

    for key in PAIRS if known_set(data) else ():
        root = data.get(key)
        if at(data, "io_backend", "type") != "lmdb" or not isinstance(root, str):
            continue
        try:
            is_raw = read_lmdb_info(path_of(root)).layout == "raw"
        except StoreError as error:
            yield Mistake((*place, key), str(error))
            continue
        except OSError:
            continue  # named where the data are looked at
        if is_raw and data.get("type") != RAW_SET:
            yield Mistake((*place, key), f"{root} holds raw pixels: write type: {RAW_SET}")
        elif data.get("type") == RAW_SET and not is_raw:
            fix = f"make a raw LMDB of it by `lmlt raw {root}`, or write type: PairedImageDataset"
            yield Mistake((*place, key), f"{root} holds PNG files: {fix}")
