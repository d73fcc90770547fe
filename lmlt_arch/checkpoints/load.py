"""From a checkpoint alone to the network it belongs to.

The class and every hyperparameter are read from the names and shapes of the tensors (and the small records
that some variants keep among them), so a file needs no option file beside it. Files never execute code:
`.pth` is read with `weights_only=True`, `.safetensors` holds nothing but tensors. A file whose bits are no
longer those that were written is refused: by the checksums inside a `.pth`, and by the digest in a
`.safetensors` that this package wrote.
"""

from __future__ import annotations

import copy
import logging
import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lmlt_arch.archs import (
    ESC,
    ESCFP,
    ESCFPLTE,
    ESCLTE,
    LMLT,
    LMLTLTE,
    ESCReal,
    ESCRealM,
    LTENetwork,
    SRNetwork,
)
from lmlt_arch.archs.ablation import BIASES, POOLINGS, RECORD, ESCVariant, LMLTVariant
from lmlt_arch.archs.common.attention import resolve_attn_type
from lmlt_arch.archs.common.scale_conversion import head_scale
from lmlt_arch.archs.esc.upsample import UPSAMPLERS
from lmlt_arch.archs.lte.decoder import ANY_SCALE
from lmlt_arch.checkpoints import safetensors_file
from lmlt_arch.checkpoints.limits import blocks_mistake, kind_mistake, storage_mistake
from lmlt_arch.errors import LmltError
from lmlt_arch.files import archive_damage, is_archive

StateDict = dict[str, Tensor]

# Of the windows that only a record tells, to whose multiples images are padded.
_MAX_WINDOW = 1024

# Tried in this order: the averaged weights are the ones that were validated.
PARAM_KEYS = ("params_ema", "params")


class CheckpointError(LmltError, ValueError):
    """A file that cannot be used as a checkpoint; the message says what was found and what to do."""


class MissingKeyError(CheckpointError):
    """The file has no state dict under the key that was asked for."""


@dataclass(frozen=True)
class Description:
    """What a state dict says about its network.

    Attributes:
        arch: the class.
        kwargs: all constructor arguments that shape the network.
    """

    arch: Callable[..., SRNetwork]
    kwargs: dict[str, Any]

    def build(self, attn_type: str = "auto") -> SRNetwork:
        """The network, freshly initialized."""
        return self.arch(**self.kwargs, attn_type=attn_type)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children `prefix` has."""
    numbers = {name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)}
    return len(numbers)


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks `prefix` has, which are all alike."""
    mistake = blocks_mistake(state, prefix)
    if mistake:
        raise CheckpointError(f"incomplete or changed tensors ({mistake})")
    return _count(state, prefix)


def _ratio(hidden: int, dim: int) -> float:
    """A ratio for which `int(dim * ratio)` is `hidden` again."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def _lmlt_kwargs(state: StateDict) -> dict[str, Any]:
    dim = state["to_feat.weight"].shape[0]
    return {
        "dim": dim,
        "n_blocks": _count_blocks(state, "feats."),
        "ffn_scale": _ratio(state["feats.0.ccm.ccm.0.weight"].shape[0], dim),
        "low_to_high": "low_to_high" not in state,
    }


def _describe_lmlt(state: StateDict) -> Description:
    scale = head_scale(state["to_img.0.weight"].shape[0])
    return Description(LMLT, {**_lmlt_kwargs(state), "upscaling_factor": scale})


def _check_window(recorded: int) -> None:
    if not 0 < recorded <= _MAX_WINDOW:
        raise CheckpointError(
            f"{RECORD} in it asks for windows of {recorded} pixels; the most are {_MAX_WINDOW}"
        )


def _describe_lmlt_variant(state: StateDict) -> Description:
    levels, window, pooling = state[RECORD].tolist()
    _check_window(window)
    varied = {"levels": levels, "window": window, "pooling": POOLINGS[pooling]}
    return Description(LMLTVariant, {**_describe_lmlt(state).kwargs, **varied})


def _esc_kwargs(state: StateDict, kernel: str) -> dict[str, Any]:
    """What all ESC networks have in common; `kernel` names the shared large kernel."""
    heads, table = state["blocks.0.attn.relative_position_bias"].shape
    dim = state["last.weight"].shape[0]
    return {
        "dim": dim,
        "pdim": state[kernel].shape[0],
        "kernel_size": state[kernel].shape[-1],
        "n_blocks": _count_blocks(state, "blocks."),
        "conv_blocks": _count(state, "blocks.0.pconvs."),
        "window_size": (math.isqrt(table) + 1) // 2,
        "num_heads": heads,
        "exp_ratio": _ratio(state["blocks.0.convffns.0.proj.weight"].shape[0], dim),
    }


def _plain_esc_kwargs(state: StateDict) -> dict[str, Any]:
    return {**_esc_kwargs(state, "plk_filter"), "use_ln": "blocks.0.lns.0.weight" in state}


def _describe_esc(state: StateDict) -> Description:
    scale = head_scale(state["to_img.weight"].shape[0])
    return Description(ESC, {**_plain_esc_kwargs(state), "upscaling_factor": scale})


def _describe_esc_variant(state: StateDict) -> Description:
    dynamic, bias, window_size, num_heads = state[RECORD].tolist()
    _check_window(window_size)
    # What the table would tell, which only one kind of bias has.
    table = torch.empty(num_heads, (2 * window_size - 1) ** 2, device="meta")
    names = (f"blocks.{i}.attn.relative_position_bias" for i in range(_count_blocks(state, "blocks.")))
    kwargs = _describe_esc({**state, **dict.fromkeys(names, table)}).kwargs
    return Description(ESCVariant, {**kwargs, "dynamic_kernel": bool(dynamic), "bias": BIASES[bias]})


def _describe_escfp(state: StateDict) -> Description:
    scale = head_scale(state["to_img.weight"].shape[0])
    return Description(ESCFP, {**_esc_kwargs(state, "lk_spatial"), "upscaling_factor": scale})


def _describe_escreal(state: StateDict) -> Description:
    use_dysample = "to_img.init_pos" in state
    if use_dysample:
        groups = 4
        scale = math.isqrt(state["to_img.init_pos"].shape[1] // (2 * groups))
    else:
        scale = int(state["to_img.scale"]) if "to_img.scale" in state else 4
    kwargs = _esc_kwargs(state, "plk_filter")
    return Description(ESCReal, {**kwargs, "upscaling_factor": scale, "use_dysample": use_dysample})


def _describe_escrealm(state: StateDict) -> Description:
    _, upsampler, upscaling, _, _, mid_dim, _ = state["to_img.MetaUpsample"].tolist()
    unshuffle_mod = "proj.1.weight" in state
    shrink = math.isqrt(state["proj.1.weight"].shape[1] // 3) if unshuffle_mod else 1
    scale = upscaling // shrink
    return Description(
        ESCRealM,
        {
            **_esc_kwargs(state, "plk_filter"),
            "upscaling_factor": scale,
            "mid_dim": mid_dim,
            "upsampler": UPSAMPLERS[upsampler],
            # Without effect above x2, where the default stands.
            "unshuffle_mod": unshuffle_mod or scale > 2,
        },
    )


def _with_lte(
    arch: type[LTENetwork], encoder_kwargs: Callable[[StateDict], dict[str, Any]]
) -> Callable[[StateDict], Description]:
    """What describes an encoder followed by the LTE decoder; every scale is its own."""

    def describe(state: StateDict) -> Description:
        parts = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
        layers = [state[f"imnet.layers.{2 * i}.weight"] for i in range(_count(state, "imnet.layers."))]
        return Description(
            arch,
            {
                **encoder_kwargs(parts),
                "hidden_dim": state["coef.weight"].shape[0],
                "hidden_list": [layer.shape[0] for layer in layers[:-1]],
                "upscaling_factor": ANY_SCALE,
            },
        )

    return describe


# The names by which a network is known, most particular first.
_SIGNATURES: tuple[tuple[tuple[str, ...], Callable[[StateDict], Description]], ...] = (
    (("imnet.layers.0.weight", "encoder.plk_filter"), _with_lte(ESCLTE, _plain_esc_kwargs)),
    (
        ("imnet.layers.0.weight", "encoder.lk_spatial"),
        _with_lte(ESCFPLTE, partial(_esc_kwargs, kernel="lk_spatial")),
    ),
    (("imnet.layers.0.weight", "encoder.to_feat.weight"), _with_lte(LMLTLTE, _lmlt_kwargs)),
    (("to_feat.weight", "feats.0.lhsb.mfr.0.qkv.weight", RECORD), _describe_lmlt_variant),
    (("to_feat.weight", "feats.0.lhsb.mfr.0.qkv.weight"), _describe_lmlt),
    (("plk_filter", "to_img.weight", RECORD), _describe_esc_variant),
    (("lk_channel", "lk_spatial", "ln_last.weight"), _describe_escfp),
    (("plk_filter", "to_img.MetaUpsample"), _describe_escrealm),
    (("plk_filter", "skip.3.weight"), _describe_escreal),
    (("plk_filter", "to_img.weight"), _describe_esc),
)


def describe_state(state: StateDict) -> Description:
    """Recognize the network of a state dict and all its hyperparameters.

    Args:
        state: names and tensors.

    Raises:
        CheckpointError: not one of this package's networks, or tensors of one are missing or have changed.
    """
    for names, describe in _SIGNATURES:
        if all(name in state for name in names):
            try:
                return describe(state)
            except CheckpointError:
                raise
            except Exception as error:
                raise CheckpointError(f"incomplete or changed tensors ({error!r:.200})") from error
    shown = ", ".join(list(state)[:4])
    raise CheckpointError(
        "not a checkpoint of LMLT, ESC, ESCFP, ESCReal, ESCRealM or one of them with LTE: "
        f"its {len(state)} tensors start {shown}"
    )


def _select_state(content: Any, path: Path, key: str | None) -> StateDict:
    """The state dict inside a loaded file."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dict of tensors")
    if key is not None:
        if key not in content:
            names = _wrapped(content)
            has = f"it has {', '.join(names)}" if names else "its tensors lie in it without one"
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
        if path.suffix.lower() != ".safetensors":
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


def _refuse_damage(path: Path, damage: str) -> None:
    if damage:
        raise CheckpointError(f"{path}: damaged: {damage}; copy it anew, or take another checkpoint")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file is a CheckpointError that names it."""
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
        The network; `upscaling_factor` tells its scale.

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


def _check_fit(described: Description, state: StateDict, size: int) -> None:
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

    A checkpoint of another scale is converted where the network knows how (ESC, ESCFP). Otherwise, if not
    strict, the layers that fit are taken over, whole ones only; an upsampler of another scale or kind is not.

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
        state = load_state(path, key=None if path.suffix.lower() == ".safetensors" else key)
    except MissingKeyError as error:
        # BasicSR asks for these two on its own; any other was meant, and may be misspelt.
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
    fitting = _fitting_layers(own, _renumbered(state, own))
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
            f"take over what fits and train {_shortened(fresh)} anew, set strict_load_g (or _d) to false"
        )
    network.load_state_dict(fitting, strict=False)
    return fresh


def _misfit(network: nn.Module, state: StateDict) -> str | None:
    """What keeps a state from being loaded strictly, or None; the network stays as it is."""
    try:
        copy.deepcopy(network).load_state_dict(state)
    except Exception as error:
        # The first line only says that what follows are errors.
        lines = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:3]]
        return f"{'; '.join(lines) or error!r:.300}"
    return None


def _fitting_layers(own: Mapping[str, Tensor], state: StateDict) -> StateDict:
    """The tensors of those layers that are the same in both."""
    groups: dict[str, list[str]] = {}
    for name in {**own, **state}:
        # The layers of an upsampler mean nothing one by one.
        layer = "to_img" if name.startswith("to_img.") else name.rpartition(".")[0]
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


def _renumbered(state: StateDict, own: Mapping[str, Tensor]) -> StateDict:
    """ESC-Real's input layers under the names that they have with, or without, unshuffling in front."""
    shift = ("proj.1.weight" in own) - ("proj.1.weight" in state)
    if not shift or "skip.3.weight" not in {**own, **state}:
        return state
    renamed = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if part == "skip":
            number, _, leaf = rest.partition(".")
            name = f"skip.{int(number) + shift}.{leaf}"
        elif part == "proj":
            name = f"proj.1.{rest}" if shift > 0 else f"proj.{rest.partition('.')[2]}"
        renamed[name] = tensor
    return renamed


def _contents(state: StateDict) -> str:
    try:
        found = describe_state(state)
    except CheckpointError:
        return f"its {len(state)} tensors start {_shortened(state)}"
    arguments = ", ".join(f"{name} {value}" for name, value in found.kwargs.items())
    return f"it holds {getattr(found.arch, '__name__', found.arch)} ({arguments})"


def _shortened(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
