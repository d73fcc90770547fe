"""Model types of ESC's option files."""

from __future__ import annotations

from torch import Tensor, nn

from lmlt_arch.archs.common.padding import mirror_pad
from lmlt_arch.models.plugin_model import PluginModel


class ESCModel(PluginModel):
    """Validates on images padded to whole windows, the way the published figures of ESC were made.

    The mirrored border belongs to the image, at the bottom and right, and is cut off the output. Calling the
    network directly pads inside its attention instead and gives slightly different pixels near that border.
    """

    def upscale(self, net: nn.Module, lq: Tensor) -> Tensor:
        """Run a bare network on images padded to whole windows."""
        height, width = lq.shape[-2:]
        window, scale = getattr(net, "pad_multiple", 1), self.opt["scale"]
        padded = mirror_pad(lq, bottom=-height % window, right=-width % window)
        return super().upscale(net, padded)[..., : height * scale, : width * scale]


class ESRModel(ESCModel):
    """ESCModel under the name that the official option files of ESC use."""
