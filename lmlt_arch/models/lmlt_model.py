"""The model type of LMLT's option files."""

from __future__ import annotations

from lmlt_arch.models.plugin_model import PluginModel


class LMLTModel(PluginModel):
    """Trains with L1 plus FFT loss; validates without padding, since LMLT pads by itself."""
