"""Networks named by a preset, an option file, a checkpoint (spandrel's, too) or a name of BasicSR."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmlt_arch.archs import PRESETS
from lmlt_arch.archs.common.padding import mirror_pad
from lmlt_arch.archs.families import find_network
from lmlt_arch.checkpoints.load import CheckpointError, load_model
from lmlt_arch.checkpoints.read import load_state
from lmlt_arch.errors import MissingPackageError, UsageError, pip_install
from lmlt_arch.evaluation.models import distinct_names, split_name
from lmlt_arch.torchvision_library import declare_missing_operators

DEFAULT_SCALE = 4
# By which constructors call it.
_SCALE_KEYS = ("upscaling_factor", "upscale", "scale")

BASICSR: dict[str, dict[str, Any]] = {
    # arXiv 2108.10257, lightweight SR; the values of its option file in BasicSR.
    "SwinIR-light": {
        "type": "SwinIR",
        "upscale": DEFAULT_SCALE,
        "in_chans": 3,
        "img_size": 64,
        "window_size": 8,
        "img_range": 1.0,
        "depths": [6, 6, 6, 6],
        "embed_dim": 60,
        "num_heads": [6, 6, 6, 6],
        "mlp_ratio": 2,
        "upsampler": "pixelshuffledirect",
        "resi_connection": "1conv",
    },
    # arXiv 1707.02921, baseline.
    "EDSR-baseline": {
        "type": "EDSR",
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": 64,
        "num_block": 16,
        "upscale": DEFAULT_SCALE,
        "res_scale": 1.0,
        "img_range": 255.0,
        "rgb_mean": [0.4488, 0.4371, 0.4040],
    },
}
"""Networks of BasicSR to compare with, as `basicsr:NAME`."""


@dataclass(frozen=True)
class NetworkSource:
    """A network that can be built.

    Attributes:
        name: in tables.
        text: the argument without its name; `find_source` builds the same network from it again.
        scale: its own, or the one to take if none is asked for.
        other_scales: whether it can be built at other scales.
        has_attention: whether it has this package's attention backends.
        make: builds it for a scale and a backend (None for the default).
    """

    name: str
    text: str
    scale: int
    other_scales: bool
    has_attention: bool
    make: Callable[[int, str | None], nn.Module]

    def build(self, scale: int, attn: str | None) -> nn.Module:
        """The network in evaluation mode, on the CPU, with the same weights each time."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # Warnings in constructors of other packages are not for the user.
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            return self.make(scale, attn).eval()


def find_sources(texts: Sequence[str]) -> list[NetworkSource]:
    """The networks that arguments name, with distinct names.

    Args:
        texts: a preset's name, an option file, a checkpoint, or `basicsr:NAME`; `NAME=` may stand before it.

    Raises:
        UsageError: none given, or one that is none of these.
        OptionError: an option file that cannot be read.
        MissingPackageError: one of them needs a package that is not installed.
        FileNotFoundError: no such file.
        CheckpointError: a file of an unknown network.
    """
    if not texts:
        raise UsageError("no network to profile: give --model at least once")
    pairs = [split_name(text) for text in texts]
    sources = [find_source(text) for _, text in pairs]
    names = distinct_names(
        [
            (name or (None if Path(text).exists() else source.name), Path(text))
            for (name, text), source in zip(pairs, sources, strict=True)
        ]
    )
    return [replace(source, name=name) for name, source in zip(names, sources, strict=True)]


def find_source(text: str) -> NetworkSource:
    """The network that a text without `NAME=` stands for; see `find_sources`."""
    if text.startswith("basicsr:"):
        return _of_basicsr(text)
    if text in PRESETS:
        preset = PRESETS[text]
        return _built(text, text, {"type": preset.arch, **preset.kwargs}, _nearest_scale(preset.scales))
    path = Path(text)
    if path.suffix.lower() in (".yml", ".yaml"):
        return _of_options(path)
    if not path.exists():
        raise UsageError(
            f"--model {text}: no such file, and none of the names {', '.join(PRESETS)}, "
            f"{', '.join(f'basicsr:{name}' for name in BASICSR)}"
        )
    return _of_checkpoint(path)


def _nearest_scale(scales: Sequence[int]) -> int:
    return DEFAULT_SCALE if DEFAULT_SCALE in scales else scales[0]


def _of_basicsr(text: str) -> NetworkSource:
    name = text.removeprefix("basicsr:")
    if name not in BASICSR:
        raise UsageError(f"--model {text}: known are {', '.join(f'basicsr:{known}' for known in BASICSR)}")
    return _built(name, text, BASICSR[name], DEFAULT_SCALE)


def _of_options(path: Path) -> NetworkSource:
    try:
        from lmlt_arch.options import load_option_file
    except ImportError as error:
        raise MissingPackageError(f"{path}: reading option files needs {pip_install('train')}") from error
    opt = load_option_file(path)
    network = opt.get("network_g")
    if not isinstance(network, dict) or not isinstance(network.get("type"), str):
        raise UsageError(f"{path} has no section network_g with a type")
    scale = next((network[key] for key in _SCALE_KEYS if key in network), opt.get("scale"))
    if not isinstance(scale, int) or scale < 1:
        raise UsageError(f"{path} names no scale")
    return _built(path.stem, str(path), network, scale)


def _built(name: str, text: str, network: dict[str, Any], scale: int) -> NetworkSource:
    """A network by its `type` and its constructor's arguments."""
    kind, arguments = network["type"], {key: value for key, value in network.items() if key != "type"}
    ours = find_network(kind)
    if ours is not None:
        cls: Callable[..., nn.Module] = ours.arch

        def make(scale: int, attn: str | None) -> nn.Module:
            chosen = {} if attn is None else {"attn_type": attn}
            return cls(**{**arguments, "upscaling_factor": scale, **chosen})

        return NetworkSource(name, text, scale, True, True, make)
    foreign = _foreign(text, kind)
    key = next((key for key in _SCALE_KEYS if key in arguments), None)
    multiple = arguments.get("window_size", 1)

    def make_foreign(scale: int, attn: str | None) -> nn.Module:
        network = foreign(**{**arguments, **({} if key is None else {key: scale})})
        return network if multiple == 1 else Padded(network, multiple, scale)

    return NetworkSource(name, text, scale, key is not None, False, make_foreign)


def _foreign(text: str, kind: str) -> Callable[..., nn.Module]:
    """A class of BasicSR's registry."""
    try:
        from lmlt_arch.options.registries import registered

        known = registered("ARCH_REGISTRY")
    except ImportError:
        known = None
    if known is None:
        raise MissingPackageError(f"--model {text} needs BasicSR: {pip_install('train')}")
    if kind not in known:
        raise UsageError(f"--model {text}: BasicSR knows no network {kind!r}")
    found: Callable[..., nn.Module] = known[kind]
    return found


def _of_checkpoint(path: Path) -> NetworkSource:
    try:
        scale = load_model(path).upscaling_factor
    except CheckpointError as error:
        return _of_spandrel(path, error)

    def make(scale: int, attn: str | None) -> nn.Module:
        return load_model(path, attn_type=attn or "auto")

    return NetworkSource(path.stem, str(path), scale, False, True, make)


def _of_spandrel(path: Path, refusal: CheckpointError) -> NetworkSource:
    """A file of a network that is not ours."""
    try:
        declare_missing_operators()  # spandrel imports torchvision
        import spandrel
    except ImportError as error:
        raise _lacking_spandrel(path, refusal) from error
    try:
        found = spandrel.ModelLoader().load_from_file(path)
    except Exception as error:
        # Its readers raise nearly anything.
        raise CheckpointError(
            f"{refusal}; spandrel: {(str(error) or repr(error)).splitlines()[0]}"
        ) from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.input_channels != 3:
        raise CheckpointError(f"{path}: {found.architecture.name} does not map RGB images to images")

    def make(scale: int, attn: str | None) -> nn.Module:
        return _Described(spandrel.ModelLoader().load_from_file(path))

    return NetworkSource(path.stem, str(path), found.scale, False, False, make)


class _MissingSpandrelError(CheckpointError, MissingPackageError):
    """A file of a network that only spandrel may know."""


def _lacking_spandrel(path: Path, refusal: CheckpointError) -> CheckpointError:
    """The error for a file that is not ours; one that is damaged is no matter of a missing package."""
    sentence = f"{refusal}; files of other networks need spandrel: {pip_install('spandrel')}"
    try:
        load_state(path)
    except CheckpointError:
        return CheckpointError(sentence)
    return _MissingSpandrelError(sentence)


class Padded(nn.Module):
    """A network for multiples of its window: mirrors before it, crops after it, as its authors' tests do."""

    def __init__(self, network: nn.Module, multiple: int, scale: int) -> None:
        super().__init__()
        self.network, self.multiple, self.scale = network, multiple, scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 3, H scale, W scale)."""
        height, width = x.shape[-2:]
        padded = mirror_pad(x, bottom=-height % self.multiple, right=-width % self.multiple)
        return self.network(padded)[..., : height * self.scale, : width * self.scale]


class _Described(nn.Module):
    """A network of spandrel, which pads images as the network needs.

    Gradients pass, which spandrel's own decorator would forbid.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network, self.descriptor = descriptor.model, descriptor

    def forward(self, x: Tensor) -> Tensor:
        return inspect.unwrap(type(self.descriptor).__call__)(self.descriptor, x)
