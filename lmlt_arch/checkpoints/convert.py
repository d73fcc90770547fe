"""Checkpoints in other formats and forms, each proved by what the networks put out."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from lmlt_arch.archs import ESC, ESCFP, ESCReal, ESCRealM, SRNetwork
from lmlt_arch.archs.esc.blocks import SymmetricKernelNetwork
from lmlt_arch.checkpoints import safetensors_file
from lmlt_arch.checkpoints.load import StateDict, check_finite, describe_state, load_model, load_state
from lmlt_arch.checkpoints.metadata import NetworkFacts
from lmlt_arch.errors import LmltError
from lmlt_arch.export.verify import relative_difference
from lmlt_arch.files import TEMPORARY_SUFFIX, writing

SAFETENSORS = ".safetensors"
# Where ESCRealM notes which upsampler it has.
RECORD = "to_img.MetaUpsample"
# Baking adds up the same eight kernels in another order: rounding, in units of the largest output.
BAKING_TOLERANCE = 1e-5


class ConversionError(LmltError):
    """A conversion that is impossible, or that did not come out as it must; the message says why."""


@dataclass(frozen=True)
class Request:
    """What to make of a checkpoint.

    Attributes:
        source: the checkpoint.
        output: `.pth` or `.safetensors`.
        key: which of the checkpoint's state dicts; default as in `load_state`.
        wrapper: key for the state dict in a `.pth`; None for a bare one.
        scale: scale to convert ESC and ESCFP to.
        bake: replace the large kernel by the average that the network applies.
        network: class to convert to, `ESCReal` or `ESCRealM`.
    """

    source: Path
    output: Path
    key: str | None = None
    wrapper: str | None = "params"
    scale: int | None = None
    bake: bool = False
    network: str | None = None


@dataclass(frozen=True)
class Converted:
    """A file that was written.

    Attributes:
        facts: of the network in it.
        difference: largest difference of the outputs on noise, in units of the largest; after a change of
            scale, to the old output upscaled or reduced bilinearly.
        exact: whether the new network computes the same function; False after a change of scale.
    """

    facts: NetworkFacts
    difference: float
    exact: bool


def convert(request: Request) -> Converted:
    """Convert a checkpoint; the output appears only if it proves to be what it should.

    Raises:
        FileNotFoundError: no such checkpoint.
        CheckpointError: it is unusable.
        ConversionError: the network does not allow the conversion, or puts out something else afterwards.
        OutputError: the output cannot be written.
    """
    before = load_model(request.source, key=request.key)
    state = load_state(request.source, key=request.key)
    check_finite(state, request.source)
    if request.network is not None:
        state = _to_class(before, state, request.network)
    if request.scale is not None:
        state = _to_scale(before, state, request.scale)
    if request.bake:
        state = _baked(state)
    with writing(request.output, suffix=f"{TEMPORARY_SUFFIX}{request.output.suffix}") as temporary:
        temporary.write_bytes(_file_content(request, state))
        after = load_model(temporary, key=None if _is_safetensors(request.output) else request.wrapper)
        return _prove(before, after, BAKING_TOLERANCE if request.bake else 0.0)


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == SAFETENSORS


def _file_content(request: Request, state: StateDict) -> bytes:
    # Copies, because a state dict may hold views, with whose whole storages files would be filled.
    state = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    if _is_safetensors(request.output):
        dtype = next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())
        facts = replace(NetworkFacts.of(_built(state)), dtype=dtype)
        return safetensors_file.dump(state, {"format": "pt", **facts.to_metadata()})
    buffer = io.BytesIO()
    torch.save(state if request.wrapper is None else {request.wrapper: state}, buffer)
    return buffer.getvalue()


def _built(state: StateDict) -> SRNetwork:
    network = describe_state(state).build()
    network.load_state_dict(state)
    return network.eval()


def _prove(before: SRNetwork, after: SRNetwork, tolerance: float) -> Converted:
    """Compare outputs on one image whose sides are no multiples of any window."""
    lq = torch.rand(1, 3, 45, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = before(lq), after(lq)
    exact = before.upscaling_factor == after.upscaling_factor
    if not exact:
        expected = F.interpolate(expected, size=found.shape[-2:], mode="bilinear", antialias=True)
    difference = relative_difference(found, expected)
    if exact and not difference <= tolerance:
        raise ConversionError(
            f"the converted network's output differs by {difference:.1e} of its largest value, more than "
            f"{tolerance:.0e}; nothing was written"
        )
    return Converted(NetworkFacts.of(after), difference, exact)


def _to_scale(network: SRNetwork, state: StateDict, scale: int) -> StateDict:
    """The state of the same network at another scale, its last layer resized."""
    if not isinstance(network, ESC | ESCFP):
        raise ConversionError(
            f"--scale: the last layer of {type(network).__name__} cannot be resized; ESC's and ESCFP's can"
        )
    kwargs = {**describe_state(state).kwargs, "upscaling_factor": scale}
    resized = type(network)(**kwargs)
    resized.load_state_dict(state)
    return resized.state_dict()


def _baked(state: StateDict) -> StateDict:
    """The state with the averaged large kernel, which averaging leaves as it is."""
    network = _built(state)
    if not isinstance(network, SymmetricKernelNetwork):
        raise ConversionError(
            f"--bake: {type(network).__name__} averages no large kernel; ESC, ESCReal and ESCRealM do"
        )
    network.convert()
    return {**state, "plk_filter": network.plk_filter}


def _to_class(network: SRNetwork, state: StateDict, name: str) -> StateDict:
    """The state of ESCReal as one of ESCRealM, or back."""
    if type(network).__name__ == name or not isinstance(network, ESCReal | ESCRealM):
        raise ConversionError(
            f"--to {name}: this is {type(network).__name__}; ESCReal and ESCRealM are converted"
        )
    kwargs = describe_state(state).kwargs
    if isinstance(network, ESCReal):
        same, old, new = kwargs.pop("use_dysample") and network.upscaling_factor > 1, "to_img.", "to_img.0."
    else:
        same = kwargs["upsampler"] == "dysample" and network.unshuffle == 1 and "to_img.0.init_pos" in state
        old, new = "to_img.0.", "to_img."
    if not same:
        raise ConversionError(
            f"--to {name}: only DySample, without inner width or unshuffling, is the same in both: "
            "ESCReal convolves after replicating pixels, ESCRealM before. To start training from this "
            "network all the same, give it as pretrain_network_g with strict_load_g: false"
        )
    renamed = {
        f"{new}{key.removeprefix(old)}" if key.startswith(old) else key: tensor
        for key, tensor in state.items()
        if key != RECORD
    }
    if name == "ESCRealM":
        scale = network.upscaling_factor
        kwargs |= {"mid_dim": kwargs["dim"], "upsampler": "dysample", "unshuffle_mod": scale > 2}
        renamed[RECORD] = ESCRealM(**kwargs).state_dict()[RECORD]
    return renamed
