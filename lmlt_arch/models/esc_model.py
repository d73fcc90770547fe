"""The model types of ESC's option files."""

from __future__ import annotations

from torch import Tensor, nn

from lmlt_arch.archs.common.padding import mirror_pad
from lmlt_arch.models.plugin_model import PluginModel


class ESCModel(PluginModel):
    """Validates on images padded to whole windows, as in the published figures of ESC.

    The image is mirrored at the bottom and right, and the output is cropped. Called directly, the network
    pads inside its attention instead and gives slightly different pixels near that border.
    """

    def upscale(self, net: nn.Module, lq: Tensor) -> Tensor:
        """Run a bare network on images padded to whole windows."""
        height, width = lq.shape[-2:]
        window, scale = getattr(net, "pad_multiple", 1), self.opt["scale"]
        padded = mirror_pad(lq, bottom=-height % window, right=-width % window)
        return super().upscale(net, padded)[..., : height * scale, : width * scale]


class ESRModel(ESCModel):
    """ESCModel under its name in the official option files of ESC."""
