"""From a checkpoint alone to the network it belongs to, and checkpoints to start a training from.

The class and every hyperparameter are read from the names and shapes of the tensors (and the small records
that some variants keep among them), so a file needs no option file beside it. The families of networks in
`lmlt_arch.archs` describe how each is recognized.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lmlt_arch.archs import SRNetwork, families
from lmlt_arch.archs.common.attention import resolve_attn_type
from lmlt_arch.archs.common.description import UPSAMPLER, Recognized, StateDict, StateDictError
from lmlt_arch.checkpoints.limits import kind_mistake
from lmlt_arch.checkpoints.read import (
    PARAM_KEYS,
    CheckpointError,
    MissingKeyError,
    check_finite,
    load_state,
    read_file,
    state_keys,
)
from lmlt_arch.checkpoints.safetensors_file import is_safetensors
from lmlt_arch.renamed import warn_renamed

__all__ = [
    "CheckpointError",
    "MissingKeyError",
    "Recognized",
    "check_finite",
    "describe_state",
    "load_for_training",
    "load_model",
    "load_state",
    "read_file",
    "state_keys",
]


def __getattr__(name: str) -> type[Recognized]:
    if name == "Description":
        warn_renamed("Description", "Recognized")
        return Recognized
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def describe_state(state: StateDict) -> Recognized:
    """Recognize the network of a state dict and all its hyperparameters.

    Args:
        state: names and tensors.

    Raises:
        CheckpointError: not one of this package's networks, or tensors of one are missing or have changed.
    """
    try:
        found = families.recognize(state)
    except StateDictError as error:
        raise CheckpointError(str(error)) from error
    if found is None:
        shown = ", ".join(list(state)[:4])
        raise CheckpointError(
            f"not a checkpoint of {families.all_names()}: its {len(state)} tensors start {shown}"
        )
    return found


def load_model(
    path: str | Path,
    *,
    key: str | None = None,
    device: str | torch.device = "cpu",
    attn_type: str = "auto",
) -> SRNetwork:
    """Build the network a checkpoint belongs to, with its weights, in evaluation mode.

    Args:
        path: `.pth` or `.safetensors`, see `load_state`.
        key: which of a file's state dicts, see `load_state`.
        device: where the network goes.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.

    Returns:
        The network; its scale is `upscaling_factor`.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, or not one of this package's networks; the message says what was seen.
        ValueError: unknown `attn_type`.
    """
    attn_type = resolve_attn_type(attn_type)
    state = load_state(path, key=key)
    try:
        described = describe_state(state)
        _check_fit(described, state, Path(path).stat().st_size)
        network = described.build(attn_type)
        network.load_state_dict(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:
        # Missing or reshaped tensors surface in a constructor or in load_state_dict, which lists them.
        listed = " ".join(str(error).split())
        raise CheckpointError(f"{path}: incomplete or changed tensors ({listed:.400})") from error
    return network.to(device).eval()


def _check_fit(described: Recognized, state: StateDict, size: int) -> None:
    """Compare names, shapes and dtypes before any memory is asked for.

    Raises:
        CheckpointError: a dtype that is not taken, or more tensors than a file of `size` bytes can hold.
        Exception: others that constructors and `load_state_dict` raise, which lists what does not fit.
    """
    total = sum(tensor.nbytes for tensor in state.values())
    if total > size:
        raise CheckpointError(f"its tensors would take {total} bytes, and the file has {size}")
    with torch.device("meta"):
        skeleton = described.build()
    mistake = kind_mistake(skeleton.state_dict(), state)
    if mistake:
        raise CheckpointError(mistake)
    skeleton.load_state_dict(state, assign=True)


def load_for_training(network: nn.Module, path: str | Path, *, key: str | None, strict: bool) -> list[str]:
    """Load a checkpoint into a network that is about to be trained.

    A checkpoint of another scale is converted where the network resizes its last layer on loading. Otherwise,
    if not strict, the layers that fit are taken over, whole ones only; an upsampler of another scale or kind
    is not.

    Args:
        network: on any device; unchanged if an error is raised.
        path: `.safetensors` or a file of `torch.save`.
        key: which of a file's state dicts; where the file lacks `params` or `params_ema`, the other one, else
            the file itself, as the log then says.
        strict: refuse what does not fit entirely.

    Returns:
        Names of the parameters that were not in the checkpoint and start fresh.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, of another network, without `key`, or not fitting though it must.
    """
    path = Path(path)
    try:
        state = load_state(path, key=None if is_safetensors(path) else key)
    except MissingKeyError as error:
        # BasicSR asks for these two on its own; any other was meant, and may be misspelled.
        if key not in PARAM_KEYS:
            raise
        state = load_state(path)
        # The log of a training is BasicSR's.
        logging.getLogger("basicsr").info(f"{error}. Taking that.")
    mistake = kind_mistake(network.state_dict(), state)
    if mistake:
        raise CheckpointError(f"{path}: {mistake}")
    misfit = _misfit(network, state)
    if misfit is None:
        network.load_state_dict(state)
        return []
    own = network.state_dict()
    fitting = _fitting_layers(own, families.aligned(state, own))
    weights = {name: parameter.numel() for name, parameter in network.named_parameters()}
    fresh = [name for name in weights if name not in fitting]
    if 2 * sum(weights[name] for name in fresh) > sum(weights.values()):
        raise CheckpointError(
            f"{path}: is not for this {type(network).__name__}: {_contents(state)}; {misfit}. "
            "Give the checkpoint of a network with the same 'dim' and blocks"
        )
    if strict:
        raise CheckpointError(
            f"{path}: does not fit this {type(network).__name__} entirely: {_contents(state)}; {misfit}. To "
            f"take over what fits and train {_shortened(fresh)} again, set strict_load_g (or _d) to false"
        )
    network.load_state_dict(fitting, strict=False)
    return fresh


def _misfit(network: nn.Module, state: StateDict) -> str | None:
    """What keeps a state from being loaded strictly, or None; the network stays as it is."""
    try:
        copy.deepcopy(network).load_state_dict(state)
    except Exception as error:
        # The first line only announces the errors.
        lines = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:3]]
        return f"{'; '.join(lines) or error!r:.300}"
    return None


def _fitting_layers(own: Mapping[str, Tensor], state: StateDict) -> StateDict:
    """The tensors of those layers that are the same in both."""
    groups: dict[str, list[str]] = {}
    for name in {**own, **state}:
        # The layers of an upsampler mean nothing one by one.
        layer = UPSAMPLER if name.startswith(f"{UPSAMPLER}.") else name.rpartition(".")[0]
        groups.setdefault(layer, []).append(name)
    return {
        name: state[name]
        for names in groups.values()
        if all(_same_kind(own.get(name), state.get(name)) for name in names)
        for name in names
    }


def _same_kind(mine: Tensor | None, other: Tensor | None) -> bool:
    if mine is None or other is None or mine.shape != other.shape:
        return False
    # Records of a configuration must agree in value.
    return mine.is_floating_point() or torch.equal(mine.cpu(), other.to(mine.dtype))


def _contents(state: StateDict) -> str:
    try:
        found = describe_state(state)
    except CheckpointError:
        return f"its {len(state)} tensors start {_shortened(state)}"
    arguments = ", ".join(f"{name} {value}" for name, value in found.kwargs.items())
    return f"it holds {found.description.name} ({arguments})"


def _shortened(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
