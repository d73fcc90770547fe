"""L1 distance between spectra, the second loss term of LMLT (arXiv 2409.03516)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTIONS = ("none", "mean", "sum")


class FFTLoss(nn.Module):
    """L1 between the real and imaginary parts of two images' unnormalized `rfft2`.

    Args:
        loss_weight: factor of the result.
        reduction: `mean`, `sum` or `none`.

    Raises:
        ValueError: the reduction is not one of these.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"FFTLoss: unknown reduction {reduction!r}; use one of {', '.join(REDUCTIONS)}")
        self.loss_weight = loss_weight
        self.reduction = reduction

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare two batches of images.

        Args:
            pred: (B, C, H, W), any floating type; half precision is transformed in float32.
            target: the same shape as `pred`.
            weight: factors of the spectrum's parts, broadcastable to (B, C, H, W // 2 + 1, 2), the last axis
                being real and imaginary; `mean` then divides by their sum, as BasicSR's losses do.

        Returns:
            A scalar, or (B, C, H, W // 2 + 1, 2) for `none`.

        Raises:
            ValueError: the shapes differ.
        """
        if pred.shape != target.shape:
            raise ValueError(f"FFTLoss: {tuple(pred.shape)} cannot be compared with {tuple(target.shape)}")
        # The transform is linear: one of the difference replaces two.
        difference = pred - target if pred.dtype == torch.float64 else pred.float() - target.float()
        loss = torch.view_as_real(torch.fft.rfft2(difference)).abs()
        if weight is not None:
            weight = weight.to(loss).expand_as(loss)
            loss = loss * weight
        if self.reduction == "sum":
            loss = loss.sum()
        elif self.reduction == "mean":
            loss = loss.mean() if weight is None else loss.sum() / weight.sum()
        return self.loss_weight * loss
