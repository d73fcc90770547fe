"""The base of all model types: BasicSR's SRModel with more losses, mixed precision and exact resuming."""

# mypy: allow-subclassing-any
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from signal import Signals
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lmlt_arch.data.datasets.common import unit_range
from lmlt_arch.losses.vgg_weights import vgg_weights
from lmlt_arch.metrics import prepare_metrics
from lmlt_arch.models.agreement import batch_of, changes_since, check_agreement
from lmlt_arch.models.former_names import FormerNames
from lmlt_arch.models.loss_watch import Losses, LossWatch
from lmlt_arch.models.network_setup import (
    load_weights,
    make_optimizer,
    prepare_network,
    use_deterministic_algorithms,
)
from lmlt_arch.models.precision import Precision
from lmlt_arch.models.saving import CheckpointFiles, progress_of
from lmlt_arch.models.shares import Shares
from lmlt_arch.models.training_state import RankState, Termination, capture_rng, restore_rng
from lmlt_arch.models.validation import SeveralSets, upscaled, validate
from lmlt_arch.names import holds_ours
from lmlt_arch.options import Train
from lmlt_arch.options.checks.run import checked_options


class PluginModel(FormerNames, SRModel):
    """SRModel with an FFT loss, every optimizer of PyTorch, mixed precision, exact resuming and safe files.

    The options beyond those of SRModel are described in `lmlt_arch.options`. A batch of the loader is one
    step of the optimizer, in however many parts and on however many processes: schedules, logs and
    checkpoints count these steps.

    A run that is killed and resumed goes on bit for bit where its last checkpoint was, if the device
    computes the same twice (`deterministic: true`). SIGTERM or SIGUSR1 saves a checkpoint and ends the run.

    Raises:
        ValueError: `checked_options` found a mistake in the options.
    """

    lq: Tensor
    gt: Tensor
    output: Tensor
    files: list[str]
    train_sampler: Any = None
    """The order of the training data, set by the training loop; it holds the place, over all epochs."""
    run = ""
    """Which run this is, set by the training loop."""

    def __init__(self, opt: Mapping[str, Any]) -> None:
        opt = checked_options(opt)
        self._rank_state: RankState | None = None
        self._began = False
        self.loss_watch = LossWatch(opt)
        self.checkpoint_files = CheckpointFiles(opt)
        self.files = []
        if opt["is_train"]:
            self.train_options = Train.model_validate(opt["train"])
            self.shares = Shares(opt, self.train_options.accumulation_steps)
            if self.train_options.deterministic:
                use_deterministic_algorithms()
        super().__init__(opt)
        metrics = (opt.get("val") or {}).get("metrics") or {}
        prepare_metrics(
            {name: each for name, each in metrics.items() if holds_ours("METRIC_REGISTRY", each["type"])}
        )
        get_root_logger().addFilter(SeveralSets(self))

    # Building

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to its device, prepared as the options of a training ask for."""
        if self.is_train:
            prepare_network(net, self.train_options, main=net is self.net_g, graphs=self._runs_as_graphs(net))
        return super().model_to_device(net)

    def _runs_as_graphs(self, net: nn.Module) -> bool:
        """Whether a compiled network may run as CUDA graphs: a call overwrites the output of the last one."""
        once = not self.shares.several and "network_d" not in self.opt
        return net is self.net_g and once and self.device.type == "cuda" and not self.opt["dist"]

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load a checkpoint, also one of another scale; the log names the tensors that start fresh.

        Raises:
            FileNotFoundError: no such file.
            CheckpointError: the file is damaged, or of another network.
        """
        average_of = self.get_bare_model(self.net_g) if net is getattr(self, "net_g_ema", None) else None
        load_weights(self.get_bare_model(net), load_path, key=param_key, strict=strict, average_of=average_of)

    def init_training_settings(self) -> None:
        """Build the losses, the averaged network, the optimizers and the schedules."""
        self.precision = Precision(self.train_options.amp, self.device)
        with vgg_weights(self.opt["path"].get("vgg")):
            super().init_training_settings()
        fft_opt = self.opt["train"].get("fft_opt")
        self.cri_fft = build_loss(fft_opt).to(self.device) if fft_opt else None
        self.termination = Termination()

    def get_optimizer(
        self, optim_type: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """Make an optimizer of the parameters that are trained, such as `train: optim_g`."""
        return make_optimizer(optim_type, params, lr, self.device, **kwargs)

    # Training

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Begin an iteration; the first one after a resume restores what this process had kept for itself.

        Raises:
            DisagreementError: before the first iteration, the processes hold different things.
        """
        if self._rank_state is not None:
            self.load_rank_state(self._rank_state)
            self._rank_state = None
        if self.opt["dist"] and not self._began:
            check_agreement(self, current_iter - 1)
        self._began = True
        self.shares.begin_step()
        if self.train_sampler is not None:
            self.train_sampler.advance()
        super().update_learning_rate(current_iter, warmup_iter)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: `lq` and perhaps `gt`, (B, 3, H, W) floats in [0, 1] or uint8, and file names."""
        self.lq = self.to_device(data["lq"])
        if "gt" in data:
            self.gt = self.to_device(data["gt"])
        self.files = [str(name) for name in data.get("gt_path", data.get("lq_path", []))]

    def to_device(self, images: Tensor) -> Tensor:
        """Images on the model's device, in the memory layout of the networks; bytes as floats in [0, 1]."""
        last = self.is_train and self.train_options.channels_last
        layout = torch.channels_last if last else torch.contiguous_format
        images = images.to(self.device, non_blocking=True, memory_format=layout)
        return unit_range(images) if images.dtype == torch.uint8 else images

    def optimize_parameters(self, current_iter: int) -> None:
        """Train on the batch of `feed_data` and read the losses of the iteration before.

        The losses of this iteration are read in the next one, in the log, or before anything is saved, so
        that the device always has work.

        Raises:
            FloatingPointError: a loss term is infinite or not a number, on this process or another.
            SystemExit: a signal had come; everything was saved.
        """
        losses = self.train_step(current_iter)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        came = self.termination.came
        agreed = self.loss_watch.add(current_iter, losses, self.lq, self.gt, self.files, came=came)
        self.log_dict = self.loss_watch.log
        if leaving := agreed if self.opt["dist"] else came:
            self._leave(current_iter, leaving)

    def get_current_log(self) -> Mapping[str, float]:
        """The losses of the last iteration, averaged over all processes, once it is finished.

        Raises:
            FloatingPointError: a loss term is infinite or not a number, on this process or another.
        """
        self._settle()
        return self.log_dict

    def _settle(self) -> None:
        """Read the losses of the last iteration."""
        if self.loss_watch.last is not None:
            self.loss_watch.read(self.loss_watch.last)
            self.log_dict = self.loss_watch.log

    def train_step(self, current_iter: int) -> Losses:
        """Forward, backward and the optimizers' steps; returns this process's losses, detached."""
        self.optimizer_g.zero_grad()
        total: Losses = OrderedDict()
        outputs = []
        for last, divisor, (lq, gt) in self.shares.parts(self.lq, self.gt):
            with self.syncing(self.net_g, last):
                with self.precision.autocast():
                    output, target = self.predicted(lq, gt)
                output = self.precision.full(output)
                terms = self.generator_terms(output, target)
                self.backward(terms, total, divisor)
            outputs.append(output.detach())
        self.output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
        self.step(self.optimizer_g, self.net_g)
        self.precision.update()
        return total

    def predicted(self, lq: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """The network's output for a micro-batch, and its target."""
        return self.net_g(lq), gt

    def syncing(self, net: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Let DDP exchange gradients once per step instead of once per micro-batch."""
        if isinstance(net, DistributedDataParallel) and not last:
            return net.no_sync()
        return nullcontext()

    def generator_terms(self, output: Tensor, gt: Tensor, perceptual_gt: Tensor | None = None) -> Losses:
        """The terms that compare an output with its ground truth.

        Args:
            output: (B, 3, H, W), at least float32.
            gt: the same shape.
            perceptual_gt: for the perceptual loss, if that has another target.
        """
        terms: Losses = OrderedDict()
        if self.cri_pix:
            terms["l_pix"] = self.cri_pix(output, gt)
        if self.cri_fft:
            terms["l_fft"] = self.cri_fft(output, gt)
        if self.cri_perceptual:
            with self.precision.autocast():
                perceptual, style = self.cri_perceptual(
                    output, gt if perceptual_gt is None else perceptual_gt
                )
            if perceptual is not None:
                terms["l_percep"] = perceptual
            if style is not None:
                terms["l_style"] = style
        return terms

    def backward(self, terms: Losses, total: Losses, divisor: float) -> None:
        """Add the gradients of a micro-batch's terms, and its share of them to the losses of the step."""
        self.precision.backward(torch.stack([*terms.values()]).sum() / divisor)
        for name, term in terms.items():
            share = term.detach() / divisor
            total[name] = total[name] + share if name in total else share

    def step(self, optimizer: torch.optim.Optimizer, net: nn.Module) -> None:
        """Clip the gradients to `grad_clip` and take the optimizer's step."""
        self.precision.step(optimizer, net.parameters(), self.train_options.grad_clip)

    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged network toward the trained one."""
        averaged = dict(self.net_g_ema.named_parameters())
        trained = dict(self.get_bare_model(self.net_g).named_parameters())
        with torch.no_grad():
            torch._foreach_mul_([*averaged.values()], decay)
            torch._foreach_add_([*averaged.values()], [trained[name] for name in averaged], alpha=1 - decay)

    def _leave(self, current_iter: int, came: Signals) -> None:
        epoch = (self.train_sampler.epoch or 0) if self.train_sampler is not None else 0
        self.save(epoch, current_iter)
        saved = "saved" if self.checkpoint_files.newest == current_iter else "not saved"
        text = f"{came.name}: {saved} at iteration {current_iter} and leaving"
        get_root_logger().info(f"{text}. Start with --auto_resume to go on.")
        raise SystemExit(128 + came)

    # Validation

    def test(self) -> None:
        """Upscale `self.lq` (B, 3, H, W) into `self.output` (B, 3, H * scale, W * scale)."""
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        training = net.training
        net.eval()
        with torch.no_grad():
            self.output = self.upscale(net, self.lq)
        net.train(training)

    def upscale(self, net: nn.Module, lq: Tensor) -> Tensor:
        """Run a bare network on whole images, in tiles if the options ask for them."""
        return upscaled(net, lq, self.opt.get("tile"), self.opt["scale"])

    def metrics_of(self, dataset: Any) -> Mapping[str, Mapping[str, Any]]:
        """The metrics by which a validation set is measured, with their arguments."""
        return self.opt["val"].get("metrics") or {}

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validate on one process."""
        validate(self, dataloader, current_iter, tb_logger, save_img)

    def dist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validate on all processes, each on its share of the images."""
        validate(self, dataloader, current_iter, tb_logger, save_img)

    # Saving and resuming

    def rank_state(self) -> RankState:
        """The state that this process has for itself and needs to go on bit for bit."""
        return {"rng": capture_rng()}

    def load_rank_state(self, state: RankState) -> None:
        """Go on from a state of `rank_state`."""
        restore_rng(state["rng"])

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the networks and, unless `current_iter` is -1, the state to resume from.

        A periodic checkpoint that cannot be written is reported and training goes on, as in BasicSR: the disk
        may have room again at the next one.

        Raises:
            OutputError: the final network could not be written.
            FloatingPointError: the last iteration had a loss that is not finite; nothing was written.
            DisagreementError: the processes hold different things; nothing was written.
        """
        if self.is_train:
            self._settle()
            if self.opt["dist"]:
                check_agreement(self, current_iter)
        if current_iter == -1:
            self.termination.release()
            self.checkpoint_files.save_last(self)
        else:
            self.checkpoint_files.save(self, epoch, current_iter)

    def save_networks(self, current_iter: int) -> None:
        """Write every network of the model.

        Raises:
            OutputError: a file could not be written.
        """
        if hasattr(self, "net_g_ema"):
            self.save_network(
                [self.net_g, self.net_g_ema], "net_g", current_iter, param_key=["params", "params_ema"]
            )
        else:
            self.save_network(self.net_g, "net_g", current_iter)

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
        bare = map(self.get_bare_model, nets)
        self.checkpoint_files.write_networks(dict(zip(keys, bare, strict=True)), net_label, current_iter)

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write `{current_iter}.state` in BasicSR's format, with an entry of ours, all of it or nothing.

        Raises:
            OutputError: the file could not be written.
        """
        if self.opt["rank"] != 0 or current_iter == -1:
            return
        ours = {
            "scaler": self.precision.state_dict(),
            "sampler": self.train_sampler.state() if self.train_sampler is not None else None,
            "batch": batch_of(self.opt),
            "run": self.run,
            "best_metrics": getattr(self, "best_metric_results", None),
        }
        self.checkpoint_files.write_state(epoch, current_iter, self.optimizers, self.schedulers, ours)

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Restore optimizers, schedules, scaler, place in the data and random generators.

        Of a schedule, the progress is restored and the settings are those of the options: a run may be
        resumed with more iterations.

        Raises:
            CheckpointError: the file of this rank is damaged.
        """
        schedulers = [progress_of(state) for state in resume_state["schedulers"]]
        super().resume_training({**resume_state, "schedulers": schedulers})
        kept = resume_state.get("plugin") or {}
        self.precision.load_state_dict(kept.get("scaler") or {})
        if kept.get("best_metrics"):
            self.best_metric_results = kept["best_metrics"]
        if self.train_sampler is not None and not kept.get("sampler"):
            get_root_logger().warning("The place in the epoch is not known: the epoch starts again.")
        elif self.train_sampler is not None and not self.train_sampler.resume(kept["sampler"]):
            get_root_logger().warning("The order of the training data has changed since: a new epoch begins.")
        self._rank_state = self.checkpoint_files.read_rank_state(resume_state["iter"])
        if not self.run or kept.get("run") != self.run:  # not where this run was left
            self.checkpoint_files.spare(resume_state["iter"])
        if changes := changes_since(kept, self):
            get_root_logger().warning(changes)
