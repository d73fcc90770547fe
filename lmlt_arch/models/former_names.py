"""Former names of the models' methods, which go in 0.3."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lmlt_arch.renamed import warn_renamed


class FormerNames:
    """Keeps `enlarge`, the former name of `upscale`, for callers and for classes that override it."""

    upscale: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The nearest definition of either: a mixin's, too.
        nearest = next(base for base in cls.__mro__ if {"enlarge", "upscale"} & vars(base).keys())
        if nearest is not FormerNames and "upscale" not in vars(nearest):
            warn_renamed(f"{cls.__name__}.enlarge", "upscale")
            cls.upscale = vars(nearest)["enlarge"]

    def enlarge(self, net: nn.Module, lq: Tensor) -> Tensor:
        """`upscale` under its former name."""
        warn_renamed(f"{type(self).__name__}.enlarge", "upscale")
        # Of an override it is `super().enlarge`: what was there before it is behind the last of them.
        classes = type(self).__mro__[: type(self).__mro__.index(FormerNames)]
        overrides = [number for number, cls in enumerate(classes) if "enlarge" in vars(cls)]
        behind = classes[overrides[-1] + 1 if overrides else 0 :]
        upscale = next(vars(cls)["upscale"] for cls in behind if "upscale" in vars(cls))
        output: Tensor = upscale(self, net, lq)
        return output
