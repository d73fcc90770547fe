"""Model types of ESC's option files."""

from lmlt_arch.archs.padding import mirror_pad
from lmlt_arch.models.base_model import PluginModel


class ESCModel(PluginModel):
    """Validates on images padded to whole windows, the way the published figures of ESC were made.

    The mirrored border belongs to the image, at the bottom and right, and is cut off the output. Calling the
    network directly pads inside its attention instead and gives slightly different pixels near that border.
    """

    def test(self) -> None:
        """Enlarge `self.lq` (B, 3, H, W) into `self.output` (B, 3, H * scale, W * scale)."""
        lq = self.lq
        height, width = lq.shape[-2:]
        window = getattr(self.get_bare_model(self.net_g), "pad_multiple", 1)
        try:
            self.lq = mirror_pad(lq, bottom=-height % window, right=-width % window)
            super().test()
        finally:
            self.lq = lq
        scale = self.opt["scale"]
        self.output = self.output[..., : height * scale, : width * scale]


class ESRModel(ESCModel):
    """ESCModel under the name that the official option files of ESC use."""
