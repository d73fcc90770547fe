"""LMLT, ESC, ESCFP, ESCReal and ESCRealM for spandrel, and so for every program that loads through it.

Call `install()` once; from then on `spandrel.ModelLoader().load_from_file(...)` takes their checkpoints.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

from typing import Any

from lmlt_arch.archs import ESC, ESCFP, LMLT, ESCReal, ESCRealM, SRNetwork
from lmlt_arch.checkpoints.load import CheckpointError, describe_state
from lmlt_arch.hook import patching

try:
    # It imports torchvision, which may need the same patch here as under BasicSR.
    patching.before("spandrel")
    from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling
except ImportError as error:
    raise ImportError(f'spandrel cannot be used ({error}): pip install "basicsr-lmlt[spandrel]"') from error

NETWORKS: tuple[type[SRNetwork], ...] = (LMLT, ESC, ESCFP, ESCReal, ESCRealM)


class _NetworkArchitecture(Architecture[SRNetwork]):
    """One of this package's classes as spandrel sees it."""

    def __init__(self, network: type[SRNetwork]) -> None:
        super().__init__(id=network.__name__, detect=self._is_ours)
        self._network = network

    def _is_ours(self, state_dict: dict[str, Any]) -> bool:
        try:
            return describe_state(state_dict).arch is self._network
        except CheckpointError:
            return False

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[SRNetwork]:
        """Build the network that a detected state dict belongs to, with its weights."""
        found = describe_state(state_dict)
        network = found.build().eval()
        return ImageModelDescriptor(
            network,
            state_dict,
            architecture=self,
            purpose="SR" if network.upscaling_factor > 1 else "Restoration",
            tags=[f"{found.kwargs['dim']}dim", f"{found.kwargs['n_blocks']}nb"],
            supports_half=True,
            supports_bfloat16=True,
            scale=network.upscaling_factor,
            input_channels=3,
            output_channels=3,
            # Any size runs. The networks mirror images to whole windows in their own way, which padding
            # from outside would replace by another, so no size is asked for.
            size_requirements=None,
            # The dynamic kernels of ESC average over the image that they are given.
            tiling=ModelTiling.SUPPORTED if self._network is LMLT else ModelTiling.DISCOURAGED,
        )


def install() -> None:
    """Add the networks to spandrel's main registry; harmless if called again.

    A network of the same name that is registered already takes precedence.
    """
    MAIN_REGISTRY.add(
        *(ArchSupport.from_architecture(_NetworkArchitecture(network)) for network in NETWORKS),
        ignore_duplicates=True,
    )
