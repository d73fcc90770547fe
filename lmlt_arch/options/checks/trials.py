"""Trials of losses and metrics of an option file: each runs once on noise before training starts.

They are called as the model calls them. What cannot be tried here, because weights would be fetched from a
network or a GPU is missing, is no mistake.
"""

from __future__ import annotations

import math
import random
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIZES_OF_IMAGES = ((224, 256), (640, 768))
"""Of images to measure, (height, width): inside the widest border the first has four blocks of NIQE."""

# The widest border that is tried, so that enough of the images is left.
_BORDER = 16
_ELSEWHERE = re.compile(r"cuda|nvidia|same device|\bmps\b|out of memory|process group", re.IGNORECASE)


class _Fetches(BaseException):
    """Something tries to use the internet; no `Exception`, which would be taken for a failing loss."""


def loss_trial(
    build: Callable[[], Any], name: str, *, sides: Sequence[int], batch: int = 2, channels: int = 3
) -> str | None:
    """The mistake in a loss as models call it, or None.

    Args:
        build: makes the loss.
        name: of its section, such as `pixel_opt`, which decides how it is called.
        sides: of the crops; where the first one fails, the next one counts.
        batch: crops at once.
        channels: of the crops.
    """
    loss, wrong = _tried(build)
    if wrong is not None or loss is None:
        return f"cannot be built: {wrong.partition(': ')[2] or wrong}" if wrong else None

    def attempt(side: int) -> str | None:
        noise = torch.Generator().manual_seed(0)
        output, gt = torch.rand(2, batch, 1 if name == "gan_opt" else channels, side, side, generator=noise)
        with torch.inference_mode(False), torch.enable_grad():
            return _wrong_loss(loss, name, output.clone().requires_grad_(), gt.clone())

    return _first_that_works(attempt, sides)


def metric_trial(
    metric: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    compared: bool,
    finite: bool = False,
    turned: bool = False,
) -> str | None:
    """The mistake in a metric as models call it, or None.

    Args:
        metric: the function.
        arguments: what the option file gives it.
        compared: whether it is given ground truth.
        finite: whether its result for noise is always finite.
        turned: whether images are views of RGB turned around, as our models give them.
    """
    given = dict(arguments)
    if isinstance(given.get("crop_border"), int):
        given["crop_border"] = min(given["crop_border"], _BORDER)

    def attempt(size: tuple[int, int]) -> str | None:
        noise = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        noise = noise[..., ::-1] if turned else noise
        images = {"img": noise[0], "img2": noise[1]} if compared else {"img": noise[0]}
        with torch.no_grad():
            figure = metric(**images, **given)
        try:
            value = float(figure)
        except (TypeError, ValueError):
            return f"gives {figure!r:.120} instead of a number"
        return f"gives {value}" if finite and not math.isfinite(value) else None

    return _first_that_works(attempt, SIZES_OF_IMAGES)


def _wrong_loss(loss: Any, name: str, output: Tensor, gt: Tensor) -> str | None:
    if name == "gan_opt":
        found = [loss(output, True, is_disc=False), loss(output, False, is_disc=True)]
    elif name == "perceptual_opt":
        pair = loss(output, gt)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            return "gives no pair of the perceptual and the style loss, of which one may be None"
        found = [part for part in pair if part is not None]
    else:
        found = [loss(output, gt)]
    for part in found:
        if not isinstance(part, Tensor):
            return f"gives {part!r:.120} instead of a tensor"
        if part.numel() != 1:
            return f"gives a tensor of shape {tuple(part.shape)} instead of one number"
        if not part.isfinite():
            return f"gives {part.item()}"
    if found:
        torch.stack([part.reshape(()) for part in found]).sum().backward()
    if output.grad is not None and not output.grad.isfinite().all():
        return "has a gradient that is not finite"
    return None


def _first_that_works(attempt: Callable[[Any], str | None], sizes: Sequence[Any]) -> str | None:
    """None if any of the sizes works, else the mistake with the first one."""
    found = []
    for size in sizes:
        text, raised = _tried(partial(attempt, size))
        if text is None and raised is None:
            return None
        found.append(f"fails when tried on noise: {raised}" if raised else f"{text} when tried on noise")
    return found[0]


def _tried(run: Callable[[], Any]) -> tuple[Any, str | None]:
    """The result of a call and its error, both None where it cannot be tried on this machine."""
    states = random.getstate(), np.random.get_state()
    try:
        with _offline() as fetches, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result, raised = run(), None
    except _Fetches:
        return None, None
    except Exception as error:
        text = " ".join(str(error).split())
        result, raised = None, f"{type(error).__name__}: {text}" if text else type(error).__name__
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return (None, None) if fetches or _ELSEWHERE.search(raised or "") else (result, raised)


@contextmanager
def _offline() -> Iterator[list[str]]:
    """Keep this thread from any network; yields the names of the calls that asked for one."""
    thread, asked = get_ident(), list[str]()

    def refusing(stock: Any, name: str) -> Any:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if get_ident() != thread:
                return stock(*args, **kwargs)
            asked.append(name)
            raise _Fetches

        return guarded

    places: list[tuple[Any, str]] = [(socket.socket, "connect"), (socket, "getaddrinfo")]
    kept = [(place, name, vars(place).get(name)) for place, name in places]
    for place, name in places:
        setattr(place, name, refusing(getattr(place, name), name))
    try:
        yield asked
    finally:
        for place, name, own in kept:
            if own is None:  # inherited
                delattr(place, name)
            else:
                setattr(place, name, own)
