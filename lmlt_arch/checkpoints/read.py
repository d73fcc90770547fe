"""Reading the tensors of a file: nothing in it is executed, and a damaged file is refused.

`.pth` is read with `weights_only=True`, `.safetensors` holds nothing but tensors. Damage is found by the
checksums inside a `.pth`, and by the digest in a `.safetensors` that this package wrote.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from lmlt_arch.archs.common.description import StateDict
from lmlt_arch.checkpoints import safetensors_file
from lmlt_arch.checkpoints.limits import storage_mistake
from lmlt_arch.errors import LmltError
from lmlt_arch.files import archive_damage, is_archive

PARAM_KEYS = ("params_ema", "params")
"""Keys of state dicts, tried in this order: the averaged weights are the ones that were validated."""


class CheckpointError(LmltError, ValueError):
    """A file that cannot be used as a checkpoint; the message says what was found and what to do."""


class MissingKeyError(CheckpointError):
    """The file has no state dict under the key that was asked for."""


def load_state(path: str | Path, *, key: str | None = None) -> StateDict:
    """Read the tensors of a checkpoint onto the CPU.

    Args:
        path: `.safetensors`, or a file of `torch.save`: bare, or under `params_ema` or `params`.
        key: which of a file's state dicts; default `params_ema`, else `params`, else the file itself.

    Returns:
        Names, without a leading `module.` or `_orig_mod.`, and tensors.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, holding anything but tensors, or without `key`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    with _reading(path):
        if not safetensors_file.is_safetensors(path):
            state = _select_state(read_file(path), path, key)
        elif key is None:
            _refuse_damage(path, safetensors_file.damage(path))
            state = _select_state(load_file(path), path, None)
        else:
            raise CheckpointError(f"{path}: safetensors is one state dict; leave out key {key!r}")
        mistake = storage_mistake(state, path.stat().st_size)
        if mistake:
            raise CheckpointError(f"{path}: {mistake}")
        return state


def read_file(path: Path, *, mapped: bool = False) -> Any:
    """What a file of `torch.save` holds, with tensors on the CPU; its checksums must be right.

    Args:
        path: any file.
        mapped: leave the tensors in the file: for a look at it.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, or it would run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    with _reading(path):
        _refuse_damage(path, archive_damage(path))
        # Only archives can be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_archive(path))


def state_keys(path: str | Path) -> list[str]:
    """The keys of a file of `torch.save` under which there are state dicts; none if it is one itself.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: as of `read_file`.
    """
    content = read_file(Path(path), mapped=True)
    return _wrapped(content) if isinstance(content, Mapping) else []


def check_finite(state: Mapping[str, Tensor], what: object) -> None:
    """Refuse weights that are not numbers.

    Args:
        state: names and tensors.
        what: where they come from, for the message.

    Raises:
        CheckpointError: it names the first such tensor.
    """
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{what}: weights are not finite ({name})")


def _select_state(content: Any, path: Path, key: str | None) -> StateDict:
    """The state dict inside a loaded file."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dict of tensors")
    if key is not None:
        if key not in content:
            names = _wrapped(content)
            has = f"it has {', '.join(names)}" if names else "its tensors are at the top level"
            raise MissingKeyError(f"{path}: has no key {key!r}; {has}")
        content = content[key]
    else:
        content = next((content[name] for name in PARAM_KEYS if name in content), content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: holds no tensors under the key that was chosen")
    state = {_bare_name(str(name)): value for name, value in content.items()}
    for name, value in state.items():
        if isinstance(value, Mapping):
            raise CheckpointError(f"{path}: {name!r} in it is a dict of its own; choose it with key={name!r}")
        if not isinstance(value, Tensor):
            hint = "; this is a training state, use models/net_g_*.pth" if "optimizers" in state else ""
            raise CheckpointError(f"{path}: not a dict of tensors, {name!r} is something else{hint}")
    return state


def _wrapped(content: Mapping[Any, Any]) -> list[str]:
    """The keys of a loaded file under which state dicts may be."""
    return [str(name) for name, value in content.items() if isinstance(value, Mapping)]


def _bare_name(name: str) -> str:
    """A parameter's name without what DataParallel and torch.compile put in front."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _refuse_damage(path: Path, damage: str) -> None:
    if damage:
        raise CheckpointError(f"{path}: damaged: {damage}; copy it again, or take another checkpoint")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every error about a file into a CheckpointError that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: damaged, or holds more than tensors; a file that would run code is never loaded"
        ) from error
    except Exception as error:
        # Random bytes make the readers raise nearly anything.
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({error!r:.200})") from error
