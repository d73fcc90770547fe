"""One iteration of a model, as BasicSR's training loop makes it."""

from __future__ import annotations

import torch
from basicsr.models.sr_model import SRModel


def step(model: SRModel, batch: dict[str, torch.Tensor], current_iter: int = 1) -> None:
    model.update_learning_rate(current_iter)
    model.feed_data(batch)
    model.optimize_parameters(current_iter)
