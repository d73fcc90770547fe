"""Stage 2 of ESC-Real: L1, perceptual and adversarial loss."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from torch import Tensor

from lmlt_arch.models.loss_watch import Losses
from lmlt_arch.options import GradientPenalty
from realsr.degradation import sharpen
from realsr.models.gradient_penalty import r1_penalty, wgan_gp_penalty
from realsr.models.real_model import RealWorldModel

# Which targets are sharpened by default, as in the official files.
USM_KEYS = {"l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": False}


class ESCRealGANModel(RealWorldModel):
    """Stage 2, the counterpart of BasicSR's `RealESRGANModel`.

    What is degraded is always sharpened ground truth. One step trains the network (unless the discriminator
    has this iteration for itself), then the discriminator. Losses and their names are BasicSR's, besides
    `l_d_penalty`.

    Args:
        opt: as of `RealWorldModel`, and:

            network_d: the discriminator.
            l1_gt_usm, percep_gt_usm, gan_gt_usm: which targets are sharpened (default: true, true, false).
            train: also `optim_d`, `gan_opt`, `net_d_iters` (train the network every so many iterations;
                default 1), `net_d_init_iters` (iterations of the discriminator alone at the start; default 0)
                and `gradient_penalty` (on the discriminator).

    Raises:
        ValueError: an option is missing, misspelled or impossible.
    """

    gt_usm: Tensor

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        self._sharpened = {key: self.opt.get(key, usual) is not False for key, usual in USM_KEYS.items()}

    # Building

    def init_training_settings(self) -> None:
        """Build the discriminator too, and its loss."""
        train = self.opt["train"]
        for key, section in (("network_d", self.opt), ("optim_d", train), ("gan_opt", train)):
            if not section.get(key):
                raise ValueError(f"{type(self).__name__} needs {key!r} in the option file")
        self.net_d = self.model_to_device(build_network(self.opt["network_d"]))
        self.print_network(self.net_d)
        path = self.opt["path"]
        if path.get("pretrain_network_d"):
            strict, key = path.get("strict_load_d", True), path.get("param_key_d", "params")
            self.load_network(self.net_d, path["pretrain_network_d"], strict, key)
        self.net_d.train()
        super().init_training_settings()
        self.cri_gan = build_loss(train["gan_opt"]).to(self.device)

    def setup_optimizers(self) -> None:
        """Make the optimizers of both networks."""
        super().setup_optimizers()
        settings = dict(self.opt["train"]["optim_d"])
        self.optimizer_d = self.get_optimizer(settings.pop("type"), self.net_d.parameters(), **settings)
        self.optimizers.append(self.optimizer_d)

    # Training

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Begin an iteration."""
        with warnings.catch_warnings():
            # Schedules go on, as in BasicSR, while the network waits for the discriminator to warm up.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            super().update_learning_rate(current_iter, warmup_iter)

    def sources(self, gt: Tensor) -> tuple[Tensor, Tensor]:
        """Sharpened ground truth is degraded; plain ground truth goes into the pool."""
        return sharpen(gt), gt

    def take_targets(self) -> None:
        """Sharpen the batch's ground truth, if a loss compares with that."""
        self.gt_usm = self.to_device(sharpen(self.gt)) if any(self._sharpened.values()) else self.gt

    def train_step(self, current_iter: int) -> Losses:
        """Both networks' steps; returns this process's losses, detached."""
        losses: Losses = OrderedDict()
        options = self.train_options
        self.net_d.requires_grad_(False)
        if current_iter % options.net_d_iters == 0 and current_iter > options.net_d_init_iters:
            self._step_of_network(losses)
        else:
            self._only_upscale()
        self.net_d.requires_grad_(True)
        self._step_of_discriminator(losses, current_iter)
        self.precision.update()
        return losses

    def _target(self, key: str) -> Tensor:
        return self.gt_usm if self._sharpened[key] else self.gt

    def _step_of_network(self, losses: Losses) -> None:
        self.optimizer_g.zero_grad()
        # The bare discriminator: its gradients are not wanted, so there is nothing for DDP to exchange.
        bare_discriminator = self.get_bare_model(self.net_d)
        targets = self._target("l1_gt_usm"), self._target("percep_gt_usm")
        outputs = []
        for last, divisor, (lq, l1_gt, percep_gt) in self.shares.parts(self.lq, *targets):
            with self.syncing(self.net_g, last):
                with self.precision.autocast():
                    output = self.net_g(lq)
                output = self.precision.full(output)
                terms: Losses = OrderedDict(
                    (name.replace("l_", "l_g_", 1), term)
                    for name, term in self.generator_terms(output, l1_gt, percep_gt).items()
                )
                with self.precision.autocast():
                    prediction = bare_discriminator(output)
                terms["l_g_gan"] = self.cri_gan(self.precision.full(prediction), True, is_disc=False)
                self.backward(terms, losses, divisor)
            outputs.append(output.detach())
        self.output = torch.cat(outputs)
        self.step(self.optimizer_g, self.net_g)

    @torch.no_grad()
    def _only_upscale(self) -> None:
        """Only the output, for an iteration that is the discriminator's alone."""
        bare = self.get_bare_model(self.net_g)
        outputs = []
        for _, _, (lq,) in self.shares.parts(self.lq):
            with self.precision.autocast():
                outputs.append(self.precision.full(bare(lq)))
        self.output = torch.cat(outputs)

    def _step_of_discriminator(self, losses: Losses, current_iter: int) -> None:
        self.optimizer_d.zero_grad()
        penalty = self.train_options.gradient_penalty
        if penalty is not None and current_iter % penalty.every:
            penalty = None
        for last, divisor, (real, fake) in self.shares.parts(self._target("gan_gt_usm"), self.output):
            # One exchange of gradients for all that is added up here: with the last backward pass.
            with self.syncing(self.net_d, False):
                self._discriminator_loss(real, True, losses, divisor)
                if penalty is not None:
                    term = self._penalty(penalty, real, fake)
                    self.backward(OrderedDict(l_d_penalty=term), losses, divisor)
            with self.syncing(self.net_d, last):
                self._discriminator_loss(fake, False, losses, divisor)
        self.step(self.optimizer_d, self.net_d)

    def _discriminator_loss(self, images: Tensor, is_real: bool, losses: Losses, divisor: float) -> None:
        """The discriminator's loss on real or fake images."""
        name = "real" if is_real else "fake"
        with self.precision.autocast():
            prediction = self.net_d(images)
        prediction = self.precision.full(prediction)
        loss = self.cri_gan(prediction, is_real, is_disc=True)
        self.backward(OrderedDict([(f"l_d_{name}", loss)]), losses, divisor)
        share = prediction.detach().mean() / divisor
        losses[f"out_d_{name}"] = losses.get(f"out_d_{name}", 0) + share

    def _penalty(self, penalty: GradientPenalty, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted gradient penalty, in full precision."""
        # What is differentiated twice can be neither compiled nor wrapped.
        discriminator = self.get_bare_model(self.net_d).forward
        if penalty.type == "r1":
            value = r1_penalty(discriminator, real) / 2
        else:
            value = wgan_gp_penalty(discriminator, real, fake, self._generator)
        return value * (penalty.weight * penalty.every)

    # Saving

    def save_networks(self, current_iter: int) -> None:
        """Write both networks.

        Raises:
            OutputError: a file could not be written.
        """
        super().save_networks(current_iter)
        self.save_network(self.net_d, "net_d", current_iter)


class RealHATGANModel(ESCRealGANModel):
    """ESCRealGANModel under the name that the official option files use."""
