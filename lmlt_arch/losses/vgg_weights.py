"""Weights of the perceptual loss's VGG networks from a file, without a download."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from lmlt_arch.checkpoints.load import CheckpointError, load_state

# The file given to `vgg_weights`, within it; unset outside, where BasicSR may download weights.
_chosen: ContextVar[str | None] = ContextVar("vgg_weights")


@contextmanager
def vgg_weights(path: str | None) -> Iterator[None]:
    """In this context, BasicSR's perceptual loss takes its weights from a file and never downloads any.

    Args:
        path: the file; None for the place where BasicSR looks below the working directory, then torchvision's
            cache.
    """
    token = _chosen.set(path)
    try:
        yield
    finally:
        _chosen.reset(token)


def are_chosen() -> bool:
    """Whether the calling code runs within `vgg_weights`."""
    return _chosen.get(...) is not ...


class VGGFromFile:
    """Replacement of `torchvision.models.vgg` where a feature extractor needs a pretrained network.

    Args:
        usual_place: the file in which BasicSR looks for the weights of VGG19.
    """

    def __init__(self, usual_place: str) -> None:
        self._usual_place = Path(usual_place)

    def __getattr__(self, vgg_type: str) -> Any:
        def build(**_: object) -> SimpleNamespace:
            return SimpleNamespace(features=_features(vgg_type, self._usual_place))

        return build


def _features(vgg_type: str, usual_place: Path) -> nn.Sequential:
    """The pretrained convolutions of a VGG network.

    Raises:
        FileNotFoundError: there is no file of its weights; the message names the places for it.
        CheckpointError: the file holds something else.
    """
    import torchvision

    path = _find(vgg_type, usual_place)
    # Without memory: the unused classifier would take half a gigabyte.
    with torch.device("meta"):
        features: nn.Sequential = getattr(torchvision.models, vgg_type)(init_weights=False).features
    state = load_state(path)
    prefix = "features."
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        features.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not hold torchvision's weights of {vgg_type}: its {len(state)} tensors start "
            f"{', '.join(list(state)[:4])}. The right file is {_file_name(vgg_type)}"
        ) from error
    return features


def _find(vgg_type: str, usual_place: Path) -> Path:
    name = _file_name(vgg_type)
    cache = Path(torch.hub.get_dir()) / "checkpoints" / name
    given = _chosen.get()
    if given is not None:
        place = Path(given).expanduser().absolute()
        if place.is_file():
            return place
        raise FileNotFoundError(f"path: vgg: there is no file {place}. {_advice(vgg_type, name, cache)}")
    places = [usual_place.absolute(), cache] if usual_place.name == name else [cache]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"the perceptual loss needs torchvision's weights of {vgg_type}, the file {name}, which is not at "
        f"{' nor at '.join(map(str, places))}. Put it at one of these, or name its place with 'vgg:' under "
        f"'path' in the option file. {_advice(vgg_type, name, cache)}"
    )


def _advice(vgg_type: str, name: str, cache: Path) -> str:
    fetch = f"import torchvision; torchvision.models.{vgg_type}(weights='DEFAULT')"
    return f'On a machine with Internet,  python -c "{fetch}"  fetches {name} to {cache}'


def _file_name(vgg_type: str) -> str:
    import torchvision

    url: str = torchvision.models.get_model_weights(vgg_type).DEFAULT.url
    return PurePosixPath(url).name
