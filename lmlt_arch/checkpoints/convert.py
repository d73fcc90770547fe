"""Checkpoints in other formats and forms, each verified by the outputs of both networks."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from lmlt_arch.archs import SRNetwork
from lmlt_arch.archs.common.description import StateDict, StateDictError
from lmlt_arch.archs.families import description_of, names_where
from lmlt_arch.checkpoints import safetensors_file
from lmlt_arch.checkpoints.difference import relative_difference
from lmlt_arch.checkpoints.load import check_finite, describe_state, load_model, load_state
from lmlt_arch.checkpoints.metadata import NetworkMetadata
from lmlt_arch.errors import LmltError, UsageError
from lmlt_arch.files import TEMPORARY_SUFFIX, writing

MAX_SCALE = 16
"""The largest scale to convert to: a last layer for more would hold nearly all of the weights."""

# Baking adds up the same eight kernels in another order: rounding, in units of the largest output.
BAKING_TOLERANCE = 1e-5


class ConversionError(LmltError):
    """A conversion that is impossible, or whose result differs from the original; the message says why."""


@dataclass(frozen=True)
class Request:
    """How a checkpoint is to be converted.

    Attributes:
        source: the checkpoint.
        output: `.pth` or `.safetensors`.
        key: which of the checkpoint's state dicts; default as in `load_state`.
        wrapper: key for the state dict in a `.pth`; None for a bare one.
        scale: scale to convert to, for networks that resize their last layer.
        bake: replace the large kernel by the average that the network applies.
        network: class to convert to, for networks that another class can equal.
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
        metadata: of the network in it.
        difference: largest difference of the outputs on noise, in units of the largest; after a change of
            scale, to the old output upscaled or reduced bilinearly.
        exact: whether the new network computes the same function; False after a change of scale.
    """

    metadata: NetworkMetadata
    difference: float
    exact: bool


def convert(request: Request) -> Converted:
    """Convert a checkpoint; the output appears only if it is verified.

    Raises:
        UsageError: no file can be written under this name, or the scale is out of range.
        FileNotFoundError: no such checkpoint.
        CheckpointError: it is unusable.
        ConversionError: the network does not allow the conversion, or puts out something else afterward.
        OutputError: the output cannot be written.
    """
    _check(request)
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
        after = load_model(
            temporary, key=None if safetensors_file.is_safetensors(request.output) else request.wrapper
        )
        return _prove(before, after, BAKING_TOLERANCE if request.bake else 0.0)


def _check(request: Request) -> None:
    source, output, scale = request.source, request.output, request.scale
    if output.suffix.lower() != ".pth" and not safetensors_file.is_safetensors(output):
        raise UsageError(f"{output}: name it .pth or .safetensors")
    if scale is not None and not 1 <= scale <= MAX_SCALE:
        raise UsageError(f"scale must lie in 1..{MAX_SCALE}, not {scale}")
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"{output} is the checkpoint itself: give the output another name")


def _file_content(request: Request, state: StateDict) -> bytes:
    # Copies, because a state dict may hold views, with whose whole storages files would be filled.
    state = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    if safetensors_file.is_safetensors(request.output):
        dtype = next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())
        metadata = replace(NetworkMetadata.of(_built(state)), dtype=dtype)
        return safetensors_file.dump(state, {"format": "pt", **metadata.to_header()})
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
    return Converted(NetworkMetadata.of(after), difference, exact)


def _to_scale(network: SRNetwork, state: StateDict, scale: int) -> StateDict:
    """The state of the same network at another scale, its last layer resized."""
    description = description_of(network)
    if not description.resizes_head:
        able = _in_words([f"{name}'s" for name in names_where(lambda found: found.resizes_head)])
        raise ConversionError(f"--scale: the last layer of {description.name} cannot be resized; {able} can")
    found = describe_state(state)
    resized = replace(found, kwargs={**found.kwargs, "upscaling_factor": scale}).build()
    resized.load_state_dict(state)
    return resized.state_dict()


def _baked(state: StateDict) -> StateDict:
    """The state with the averaged large kernel, which averaging leaves as it is."""
    network = _built(state)
    description = description_of(network)
    if not description.bakes:
        able = _in_words(names_where(lambda found: found.bakes))
        raise ConversionError(f"--bake: {description.name} averages no large kernel; {able} do")
    description.bake(network)
    return {**state, description.large_kernel: network.get_parameter(description.large_kernel)}


def _to_class(network: SRNetwork, state: StateDict, name: str) -> StateDict:
    """The state of a network of another class that computes the same function."""
    description = description_of(network)
    if name not in description.equivalents:
        able = _in_words(names_where(lambda found: found.equivalents))
        raise ConversionError(f"--to {name}: this is {description.name}; {able} are converted")
    try:
        return description.equivalents[name](state)
    except StateDictError as error:
        raise ConversionError(f"--to {name}: {error}") from error


def _in_words(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
