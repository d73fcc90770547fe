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
        if "enlarge" in vars(cls) and "upscale" not in vars(cls):
            warn_renamed(f"{cls.__name__}.enlarge", "upscale")
            cls.upscale = vars(cls)["enlarge"]

    def enlarge(self, net: nn.Module, lq: Tensor) -> Tensor:
        """`upscale` under its former name."""
        warn_renamed(f"{type(self).__name__}.enlarge", "upscale")
        # Of an override of this method it is `super().enlarge`: the next class has what was there.
        homes = (vars(cls) for cls in type(self).__mro__)
        upscale = next(names["upscale"] for names in homes if "upscale" in names and "enlarge" not in names)
        output: Tensor = upscale(self, net, lq)
        return output
