"""Trained networks of any kind, as functions from image to image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from lmlt_arch.archs import SRNetwork
from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.models import LoadedModel, common_scale
from lmlt_arch.evaluation.profile.subjects import find_subjects

Pixels = NDArray[np.uint8]
_OPTION_FILES = (".yml", ".yaml")


@dataclass(frozen=True)
class Upscaler:
    """Something that upscales images.

    Attributes:
        name: in tables.
        scale: output size over input size.
        run: maps (h, w, 3) to (h * scale, w * scale, 3).
    """

    name: str
    scale: int
    run: Callable[[Pixels], Pixels]


def load_upscalers(texts: Sequence[str], device: torch.device) -> list[Upscaler]:
    """Load checkpoints of this package's networks or, with the extra `[spandrel]`, of others.

    Args:
        texts: FILE or NAME=FILE for each.
        device: where the networks go.

    Raises:
        UsageError: none given, two of one name or of different scales, or one that is not trained.
        FileNotFoundError: no such file.
        CheckpointError: a file of a network that nothing here knows.
    """
    found = []
    for subject in find_subjects(texts):
        path = Path(subject.text)
        if not path.is_file() or path.suffix.lower() in _OPTION_FILES:
            raise UsageError(f"--model {subject.text} is not trained: give a checkpoint")
        network = subject.build(subject.scale, None).to(device)
        # To upscale whole images, any module does.
        model = LoadedModel(subject.name, path, cast(SRNetwork, network), None)
        found.append(Upscaler(subject.name, subject.scale, model.upscale))
    common_scale(found)
    return found
