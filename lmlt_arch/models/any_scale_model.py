"""The model type of any-scale networks."""

# mypy: allow-subclassing-any
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lmlt_arch.archs import LTENetwork
from lmlt_arch.inference.engine.any_scale import AnyScaleNetwork
from lmlt_arch.inference.engine.shared_averages import SharedAverages
from lmlt_arch.inference.engine.tiles import WHOLE, TiledNetwork, Tiling
from lmlt_arch.models.plugin_model import PluginModel


class ArbitraryScaleModel(PluginModel):
    """Trains and validates any-scale networks such as `ESCLTE`.

    An image is upscaled to the size of its ground truth: a batch may have any scale, a validation image any
    scale and aspect. `train: queries` is the number of random pixels of each crop that are compared, as
    published, instead of all: equal in expectation, and several times cheaper.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        bare = self.get_bare_model(self.net_g)
        if not isinstance(bare, LTENetwork):
            raise ValueError(
                f"ArbitraryScaleModel trains networks of any scale, such as ESCLTE, not {type(bare).__name__}"
            )

    def predicted(self, lq: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """A batch upscaled to the size of its ground truth, or some pixels of it, and the target of these."""
        size = (gt.shape[-2], gt.shape[-1])
        queries = self.train_options.queries
        if queries is None:
            return self.net_g(lq, size=size), gt
        positions = torch.randint(size[0] * size[1], (len(lq), queries), device=lq.device)
        output = self.net_g(lq, size=size, positions=positions)
        return output, gt.flatten(2).gather(2, positions[:, None].expand(-1, gt.shape[1], -1))

    def upscale(self, net: nn.Module, lq: Tensor) -> Tensor:
        """Upscale whole images to the size of their ground truth, or without that by the option `scale`."""
        height, width = lq.shape[-2:]
        scale = self.opt["scale"]
        like = self.gt.shape if hasattr(self, "gt") else (height * scale, width * scale)
        size = (like[-2], like[-1])
        assert isinstance(net, LTENetwork)
        tile = self.opt.get("tile") or {"tile_size": WHOLE, "tile_pad": 0}
        pad = tile["tile_pad"]
        tiling = Tiling.at_least(tile["tile_size"] + 2 * pad, 2 * pad, 1, net.pad_multiple)
        features = TiledNetwork(net.encode, tiling, SharedAverages(net))
        return AnyScaleNetwork(features, net).upscale(lq, size)

    def metrics_of(self, dataset: Any) -> Mapping[str, Mapping[str, Any]]:
        """The metrics, with a border as wide as the scale of the dataset."""
        found: Mapping[str, Mapping[str, Any]] = super().metrics_of(dataset)
        scale = getattr(dataset, "at_scale", None)
        if scale is None:
            return found
        border = math.ceil(max(scale))
        return {
            name: {**metric, "crop_border": border} if metric.get("crop_border") else metric
            for name, metric in found.items()
        }
