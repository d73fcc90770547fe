"""The networks of fixed scale for spandrel, and so for every program that loads through it.

Call `install()` once; from then on `spandrel.ModelLoader().load_from_file(...)` takes their checkpoints.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

from typing import Any

from lmlt_arch.archs import SRNetwork, families
from lmlt_arch.archs.common.description import Description
from lmlt_arch.checkpoints.load import CheckpointError, describe_state
from lmlt_arch.errors import MissingPackageError, pip_install
from lmlt_arch.torchvision_library import declare_missing_operators

try:
    declare_missing_operators()  # spandrel imports torchvision
    from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling
except ImportError as error:
    raise MissingPackageError(f"spandrel cannot be used ({error}): {pip_install('spandrel')}") from error

# A descriptor has a fixed scale, and variants are for experiments only.
_DESCRIBED = [found for found in families.NETWORKS if found.stands_alone and not found.any_scale]
NETWORKS: tuple[type[SRNetwork], ...] = tuple(found.arch for found in _DESCRIBED)


class _NetworkArchitecture(Architecture[SRNetwork]):
    """A network of this package as an architecture of spandrel."""

    def __init__(self, description: Description) -> None:
        super().__init__(id=description.name, detect=self._is_ours)
        self._description = description

    def _is_ours(self, state_dict: dict[str, Any]) -> bool:
        try:
            return describe_state(state_dict).description is self._description
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
            tiling=ModelTiling.DISCOURAGED if self._description.averages_image else ModelTiling.SUPPORTED,
        )


def install() -> None:
    """Add the networks to spandrel's main registry; harmless if called again.

    A network of the same name that is registered already takes precedence.
    """
    MAIN_REGISTRY.add(
        *(ArchSupport.from_architecture(_NetworkArchitecture(found)) for found in _DESCRIBED),
        ignore_duplicates=True,
    )
