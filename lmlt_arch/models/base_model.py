"""What our models add to BasicSR's SRModel."""

# mypy: allow-subclassing-any
import io
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from lmlt_arch.files import OutputError, write_atomic
from lmlt_arch.models.options import OPTIMIZERS, checked_options


class PluginModel(SRModel):
    """SRModel with an FFT loss, gradient clipping, every optimiser of PyTorch, and safe files.

    Options beyond those of SRModel, all under `train:`:

    * `fft_opt`: a third loss term, in the log as `l_fft`;
    * `grad_clip`: largest 2-norm of all gradients together;
    * `optim_g: type`: any class of `torch.optim` that needs no closure.

    Unknown keys are errors, and so is a loss that is no longer finite. A checkpoint appears under its name
    only when all of it is on the disk.

    Raises:
        ValueError: `checked_options` found a mistake in the options.
    """

    lq: Tensor
    gt: Tensor
    output: Tensor

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(checked_options(opt))

    def init_training_settings(self) -> None:
        """Build the losses, the averaged network, the optimiser and the schedule."""
        super().init_training_settings()
        fft_opt = self.opt["train"].get("fft_opt")
        self.cri_fft = build_loss(fft_opt).to(self.device) if fft_opt else None

    def get_optimizer(
        self, optim_type: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """Make the optimiser that `train: optim_g` asks for."""
        return OPTIMIZERS[optim_type](params, lr=lr, **kwargs)

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one step on the batch that `feed_data` was given.

        Raises:
            FloatingPointError: a loss term is infinite or not a number.
        """
        self.optimizer_g.zero_grad()
        self.output = self.net_g(self.lq)
        losses = self._losses()
        torch.stack(list(losses.values())).sum().backward()
        max_norm = self.opt["train"].get("grad_clip")
        if max_norm is not None:
            nn.utils.clip_grad_norm_(self.net_g.parameters(), max_norm)
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(losses)
        # The reduced values are on the host already, so this check costs no synchronisation. It comes after
        # the step, but the raise ends the run before anything is saved. Only rank 0 holds the reduced values.
        if self.opt["rank"] == 0:
            _require_finite(self.log_dict, current_iter)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _losses(self) -> OrderedDict[str, Tensor]:
        losses: OrderedDict[str, Tensor] = OrderedDict()
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(self.output, self.gt)
        if self.cri_fft:
            losses["l_fft"] = self.cri_fft(self.output, self.gt)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(self.output, self.gt)
            if perceptual is not None:
                losses["l_percep"] = perceptual
            if style is not None:
                losses["l_style"] = style
        return losses

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the networks and, unless `current_iter` is -1, the state to resume from.

        A periodic checkpoint that cannot be written is reported and training goes on, as in BasicSR: the disk
        may have room again at the next one.

        Raises:
            OutputError: the final network could not be written.
        """
        try:
            super().save(epoch, current_iter)
        except OutputError as error:
            if current_iter == -1:
                raise
            get_root_logger().error(
                f"Checkpoint {current_iter} was not saved: {error}. Earlier ones are whole; training goes on."
            )

    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int,
        param_key: str | list[str] = "params",
    ) -> None:
        """Write `{net_label}_{current_iter}.pth` in BasicSR's format, all of it or nothing.

        Raises:
            OutputError: the file could not be written.
        """
        if self.opt["rank"] != 0:
            return
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content = {}
        for key, module in zip(keys, nets, strict=True):
            state = self.get_bare_model(module).state_dict()
            for name, tensor in state.items():
                state[name] = tensor.cpu()
            content[key] = state
        name = "latest" if current_iter == -1 else current_iter
        _save_whole(content, Path(self.opt["path"]["models"]) / f"{net_label}_{name}.pth")

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write `{current_iter}.state` in BasicSR's format, all of it or nothing.

        Raises:
            OutputError: the file could not be written.
        """
        if self.opt["rank"] != 0 or current_iter == -1:
            return
        content = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
        }
        _save_whole(content, Path(self.opt["path"]["training_states"]) / f"{current_iter}.state")


def _require_finite(losses: Mapping[str, float], current_iter: int) -> None:
    bad = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"iteration {current_iter}: {', '.join(bad)}. Resume from an earlier checkpoint with a smaller "
            "learning rate or with 'grad_clip' under 'train'; if it stays, look for damaged training images"
        )


def _save_whole(content: object, path: Path) -> None:
    # Serialised in memory first: PyTorch's own writer reports a full disk as an obscure RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue(), durable=True)
