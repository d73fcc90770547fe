"""Defaults of the schema, written into the options where BasicSR reads a key without a default."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from pydantic import BaseModel

from lmlt_arch.options.datasets import DATASETS
from lmlt_arch.options.sections import Dataset, IoBackend, Logger, Val

# Keys that BasicSR's own code reads by `opt['...']` and that are optional in the schema.
_OF_LOGGER = ("use_tb_logger",)
_OF_VAL = ("suffix",)
_FLIPS = ("use_hflip", "use_rot")

# The arguments of each kind of storage; BasicSR passes it all keys of `io_backend`.
_STORAGE = {
    "disk": (),
    "lmdb": ("db_paths", "client_keys", "readonly", "lock", "readahead"),
    "memcached": ("server_list_cfg", "client_cfg", "sys_path"),
}


def write_defaults(opt: MutableMapping[str, Any]) -> None:
    """Complete the options of one of our models, in place, so that BasicSR finds every key that it reads.

    Args:
        opt: options without mistakes, as BasicSR's `parse_options` returns them.
    """
    for section, schema, keys in _sections(opt):
        for key in keys:
            section.setdefault(key, schema.model_fields[key].default)
    for data in opt["datasets"].values():
        _drop_empty_keys(data)


def _sections(
    opt: MutableMapping[str, Any],
) -> Iterator[tuple[MutableMapping[str, Any], type[BaseModel], tuple[str, ...]]]:
    if opt.get("logger") is not None:
        yield opt["logger"], Logger, _OF_LOGGER
    if opt.get("val") is not None:
        yield opt["val"], Val, _OF_VAL
    for data in opt["datasets"].values():
        kind = DATASETS.get(data.get("type"))
        if kind and kind.needs_flips:
            yield data, Dataset, _FLIPS


def _drop_empty_keys(data: MutableMapping[str, Any]) -> None:
    """Remove empty keys, whose mere presence counts for BasicSR, and other storages' arguments."""
    for key in ("meta_info", "meta_info_file"):
        if key in data and data[key] is None:
            del data[key]
    backend = data.get("io_backend")
    if backend:
        read = _STORAGE.get(backend["type"], ())
        for key in IoBackend.model_fields.keys() & backend.keys() - {"type"}:
            if key not in read or backend[key] is None:
                del backend[key]
