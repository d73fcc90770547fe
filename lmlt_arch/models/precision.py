"""Mixed precision: the dtype of a forward pass, and the scaling of losses that float16 needs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lmlt_arch.dtypes import DTYPES, is_supported
from lmlt_arch.options.train import Amp

_MODES: tuple[str, ...] = get_args(Amp)


class Precision:
    """Autocast, loss scaling and clipping, in the order that they need.

    Args:
        amp: `bf16`, `fp16`, or None for the dtype of the parameters.
        device: of the networks.

    Raises:
        ValueError: `amp` is unknown, or the GPU has no bfloat16.
    """

    def __init__(self, amp: str | None, device: torch.device) -> None:
        if amp is not None and amp not in _MODES:
            raise ValueError(f"train: amp is one of {', '.join(_MODES)}, or ~ for none; got {amp!r}")
        if amp is not None and not is_supported(amp, device.type):
            raise ValueError("train: amp: bf16 is not supported by this GPU; use fp16")
        self._device = device.type
        self._dtype = DTYPES[amp] if amp else None
        # bfloat16 has the range of float32: nothing underflows, so losses are not scaled.
        self._scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass; compute losses outside of it, on `full(output)`."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device, self._dtype)

    @staticmethod
    def full(output: Tensor) -> Tensor:
        """The output of a forward pass in at least float32."""
        return output.float() if output.dtype in map(DTYPES.get, _MODES) else output

    def backward(self, loss: Tensor) -> None:
        """Add the (scaled) gradients of a loss."""
        self._scaler.scale(loss).backward()

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Iterable[nn.Parameter] = (),
        max_norm: float | None = None,
    ) -> None:
        """Unscale, clip, and step unless a gradient has overflowed float16."""
        if max_norm is not None:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, max_norm)
        self._scaler.step(optimizer)

    def update(self) -> None:
        """Adapt the scale; once per iteration, after the last optimizer's step."""
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The scale and its history; empty unless `amp` is fp16."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a scale; an empty state (of a run without fp16) keeps the initial one."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)
