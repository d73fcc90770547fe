"""The section `train`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lmlt_arch.options.fields import LONGEST, LoopWhole, Number, Part, Section, Whole

Amp = Literal["bf16", "fp16"]
"""Mixed precision: the type of a forward pass."""


class GradientPenalty(Section):
    """A penalty on the discriminator's gradient."""

    type: Literal["r1", "wgan-gp"]
    """R1 (at real images), or WGAN-GP (between real and fake ones)."""
    weight: Number = Field(10.0, gt=0, le=1e15)
    """Weight of the penalty."""
    every: Whole = Field(1, ge=1, le=LONGEST)
    """Add it every so many iterations, so many times as strong."""


class Train(Section):
    """How the networks are trained."""

    total_iter: LoopWhole = Field(ge=1, le=LONGEST)
    """Iterations (steps of the optimiser)."""
    warmup_iter: LoopWhole = Field(-1, ge=-1, le=LONGEST)
    """Iterations in which the learning rate grows from 0; -1: none."""
    ema_decay: Number = Field(0.0, ge=0, lt=1)
    """Decay of the averaged network per iteration; 0: none."""
    optim_g: Part
    """Optimiser of network_g: any of torch.optim, and its arguments."""
    optim_d: Part | None = None
    """Optimiser of network_d."""
    scheduler: Part
    """Schedule of the learning rates."""
    pixel_opt: Part | None = None
    """Loss between pixels."""
    fft_opt: Part | None = None
    """Loss between spectra."""
    perceptual_opt: Part | None = None
    """Loss between features of VGG."""
    gan_opt: Part | None = None
    """Adversarial loss."""
    gradient_penalty: GradientPenalty | None = None
    """Penalty on the discriminator's gradient."""
    net_d_iters: Whole = Field(1, ge=1, le=LONGEST)
    """Train network_g every so many iterations; network_d in each."""
    net_d_init_iters: Whole = Field(0, ge=0, le=LONGEST)
    """Iterations at the start in which network_d is trained alone."""
    grad_clip: Number | None = Field(None, gt=0, le=1e15)
    """Largest norm of all gradients of a network together."""
    amp: Amp | None = None
    """Mixed precision; fp16 with loss scaling."""
    channels_last: bool = False
    """Memory layout that some GPUs prefer."""
    compile: bool = False
    """Compile the networks by torch.compile; on a GPU often the fastest, after a minute."""
    queries: Whole | None = Field(None, ge=1, le=2**31)
    """ArbitraryScaleModel: random pixels of each crop that are compared; none: all pixels."""
    total_batch: LoopWhole | None = Field(None, ge=1, le=LONGEST)
    """Images per step over all processes, which divide them; each takes batch_size_per_gpu at a time."""
    accumulation_steps: Whole = Field(1, ge=1, le=65536)
    """Without total_batch: go through each batch in so many parts; a divisor of batch_size_per_gpu."""
    checkpointing: bool = False
    """Of each block of network_g, keep the input only and compute the rest twice, to save memory."""
    deterministic: bool = False
    """Take only operations that give the same result twice."""
    freeze: list[str] = Field(default=[])
    """Parameters of network_g that keep their values, by the beginning of their names."""
