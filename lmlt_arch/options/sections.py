"""Every section of an option file but `train`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from lmlt_arch.options.degradation import Degradation, KernelKeys, RoundKeys
from lmlt_arch.options.fields import (
    LARGEST_SIDE,
    LONGEST,
    FilePart,
    Gpus,
    LoopNumber,
    LoopWhole,
    Name,
    Number,
    Part,
    Paths,
    Range,
    Scale,
    Section,
    Whole,
)
from lmlt_arch.options.train import Train

QUEUE_SIZE = 180
"""Pairs in the pool of real-world training, by default; as in BasicSR."""


class IoBackend(Section):
    """Where a data set's images are kept."""

    type: Literal["disk", "lmdb", "memcached"]
    """Files in folders, or a database."""
    db_paths: Paths | None = None
    """lmdb: databases, for data sets that do not name them by dataroot_..."""
    client_keys: Paths | None = None
    """lmdb: names of those databases."""
    readonly: bool = True
    """lmdb: write nothing."""
    lock: bool = False
    """lmdb: lock the database."""
    readahead: bool = False
    """lmdb: let the system read ahead."""
    server_list_cfg: str | None = None
    """memcached: file that lists the servers."""
    client_cfg: str | None = None
    """memcached: file that configures the client."""
    sys_path: str | None = None
    """memcached: added to sys.path."""


class Dataset(KernelKeys):
    """A data set, and how it is loaded."""

    name: Name
    """What the log calls it."""
    type: str
    """Its registered name."""
    dataroot_gt: Paths | None = None
    """Folder (or .lmdb) of ground truth; HQ-, Downsample- and ArbitraryScale- take a list too."""
    dataroot_lq: str | None = None
    """Folder (or .lmdb) of low quality images."""
    meta_info: Paths | None = None
    """Text file that lists the images."""
    meta_info_file: Paths | None = None
    """Text file that lists the images."""
    filename_tmpl: str = "{}"
    """Name of a low quality image, from that of its ground truth, both without suffix."""
    io_backend: IoBackend | None = None
    """Where the images are kept."""
    mean: list[LoopNumber] | None = None
    """Subtracted from each channel."""
    std: list[LoopNumber] | None = None
    """By which each channel is divided."""
    color: Literal["y"] | None = None
    """Luma only."""

    gt_size: LoopWhole | None = Field(None, ge=1, le=LARGEST_SIDE)
    """Side of the crops of ground truth, a multiple of the scale."""
    crop_pad_size: LoopWhole | None = Field(None, ge=1, le=LARGEST_SIDE)
    """HQImageDataset: side of the crops that are degraded."""
    quantize_lq: bool = True
    """DownsampleImageDataset: round low quality images to 8 bits."""
    lq_size: LoopWhole | None = Field(None, ge=1, le=LARGEST_SIDE)
    """ArbitraryScaleDataset: side of the low quality crops of training (64)."""
    scales: Range | None = None
    """ArbitraryScaleDataset: smallest and largest scale of training ([1, 4])."""
    non_square: Number = Field(0, ge=0, le=1)
    """ArbitraryScaleDataset: share of the batches in which each axis has a scale of its own."""
    at_scale: Scale | None = None
    """ArbitraryScaleDataset: scale of validation or testing, also [vertical, horizontal]."""
    use_hflip: bool = False
    """Flip at random."""
    use_rot: bool = False
    """Rotate at random."""

    num_worker_per_gpu: LoopWhole | None = Field(None, ge=0, le=1024)
    """Processes that load images; 0: the training process loads them itself."""
    batch_size_per_gpu: LoopWhole | None = Field(None, ge=1, le=65536)
    """Images per step and process."""
    dataset_enlarge_ratio: LoopNumber = Field(1, gt=0, le=1e6)
    """So many times the images make an epoch."""
    use_shuffle: bool | None = None
    """Of old files; training data are always shuffled."""
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    """Load ahead."""
    num_prefetch_queue: LoopWhole = Field(1, ge=1, le=1024)
    """So many batches ahead (prefetch_mode: cpu)."""
    pin_memory: bool = False
    """Page-locked memory, for faster copies to a GPU."""
    persistent_workers: bool = False
    """Stock models: keep the loading processes between epochs. The plugin's models always do."""
    damaged_images: Literal["fatal", "skip"] = "fatal"
    """What to do about images that cannot be read."""


class Files(Section):
    """Files to start from."""

    pretrain_network_g: str | None = None
    """Checkpoint of network_g to start from."""
    param_key_g: str | None = "params"
    """Which weights of that file: params or params_ema."""
    strict_load_g: bool = True
    """All of them must fit."""
    pretrain_network_d: str | None = None
    """Checkpoint of network_d to start from."""
    param_key_d: str | None = "params"
    """Which weights of that file."""
    strict_load_d: bool = True
    """All of them must fit."""
    resume_state: str | None = None
    """Training state (.state) to go on from."""
    ignore_resume_networks: list[str] | str | None = None
    """Networks that keep their pretrain_network when resuming."""
    vgg: str | None = None
    """vgg19-dcbb9e9d.pth for perceptual losses."""


class Metric(Part):
    """A measure, and its arguments."""

    better: Literal["higher", "lower"] = "higher"
    """Which of two values is the better one."""


class Val(Section):
    """Validation and testing."""

    val_freq: LoopWhole | None = Field(None, ge=1, le=LONGEST)
    """Validate every so many iterations."""
    save_img: bool
    """Write the images."""
    suffix: FilePart | None = None
    """At the end of their names."""
    pbar: bool = False
    """Show a progress bar."""
    metrics: dict[str, Metric] | None = None
    """Measures, by the names that the log gives them."""
    degradation_seed: Whole = Field(0, ge=0, le=LONGEST)
    """Of the degradation of validation images."""


class Wandb(Section):
    """Weights & Biases."""

    project: str | None = None
    """Its name; without one, nothing is logged there."""
    resume_id: str | None = None
    """Run to go on with."""


class Logger(Section):
    """The log and the checkpoints."""

    print_freq: LoopWhole = Field(ge=1, le=LONGEST)
    """Log every so many iterations."""
    save_checkpoint_freq: LoopWhole = Field(ge=1, le=LONGEST)
    """Save every so many iterations."""
    keep_checkpoints: LoopWhole | None = Field(None, ge=1, le=LONGEST)
    """Keep the newest so many checkpoints to resume from, and delete older ones; none: all."""
    keep_best: str | None = None
    """A metric of val: metrics; of each validation set, keep the network that it finds best."""
    use_tb_logger: bool = False
    """Write a log for TensorBoard."""
    wandb: Wandb | None = None
    """Log to Weights & Biases as well (needs use_tb_logger)."""


class DistParams(Section):
    """How several processes find each other; other keys go to torch.distributed."""

    model_config = ConfigDict(extra="allow")

    backend: str | None = None
    """nccl or gloo."""
    port: Whole | None = Field(None, ge=1, le=65535)
    """For Slurm."""


class Tile(Section):
    """Enlarge validation images in tiles, to save memory."""

    tile_size: Whole = Field(ge=1, le=LONGEST)
    """Side of a tile of the low quality image."""
    tile_pad: Whole = Field(ge=0, le=LONGEST)
    """Overlap at each side."""


class Plugin(Section):
    """What the plugin reads in option files of any model."""

    total_batch: LoopWhole | None = Field(None, ge=1, le=LONGEST)
    """Images per step over all processes, as published: train: total_batch, or a note for stock models."""
    mends: Literal["all"] | list[str] = Field(default=[])
    """Mends of BasicSR that change what is computed, to act for a model that is not the plugin's as well."""


class Options(RoundKeys):
    """An option file of BasicSR for the plugin's models."""

    name: Name = Field(pattern=r"^[^/\\]+$")
    """Name of the run and of its folder."""
    model_type: str
    """The model, by its registered name."""
    scale: LoopWhole = Field(ge=1, le=1024)
    """Upscaling factor."""
    num_gpu: Gpus
    """GPUs of this machine; 0: run on the CPU."""
    manual_seed: LoopWhole | None = Field(None, ge=0, le=2**32 - 1)  # NumPy takes no larger one
    """Seed of everything random."""
    datasets: dict[str, Dataset]
    """Data sets: train, and any number of val..., or test...."""
    network_g: Part
    """The network, by its registered name, and its arguments."""
    network_d: Part | None = None
    """The discriminator."""
    path: Files
    """Files to start from."""
    train: Train | None = None
    """How the networks are trained."""
    val: Val | None = None
    """Validation and testing."""
    logger: Logger | None = None
    """The log and the checkpoints."""
    dist_params: DistParams | None = None
    """How several processes find each other."""
    find_unused_parameters: bool = False
    """Of DistributedDataParallel."""
    tile: Tile | None = None
    """Enlarge validation images in tiles."""
    lmlt: Plugin | None = None
    """What the plugin reads in option files of any model."""

    gt_usm: bool = True
    """Real-world stage 1: sharpen ground truth before it is degraded and compared with."""
    l1_gt_usm: bool = True
    """Real-world stage 2: compare pixels with sharpened ground truth."""
    percep_gt_usm: bool = True
    """Real-world stage 2: compare features with sharpened ground truth."""
    gan_gt_usm: bool = False
    """Real-world stage 2: show the discriminator sharpened ground truth."""
    high_order_degradation: bool = True
    """Real-world models: make low quality images while training; false: the data are pairs."""
    gt_size: LoopWhole | None = Field(None, ge=1, le=LARGEST_SIDE)
    """Real-world models: side of the crops to train on."""
    queue_size: LoopWhole = Field(QUEUE_SIZE, ge=0, le=2**20)
    """Real-world models: pairs in the pool; a multiple of the batch, 0 for none."""
    degradation: Degradation | None = None
    """Real-world models: degradations beyond BasicSR's."""


ADDED = {
    (): ("dist", "rank", "world_size", "auto_resume", "is_train", "root_path"),
    ("path",): (
        "experiments_root",
        "results_root",
        "models",
        "training_states",
        "log",
        "visualization",
        "pretrain_network_g_ema",
    ),
    ("datasets", "*"): ("phase", "scale"),
}
"""Keys that BasicSR's `parse_options` adds to those of a file, by section."""
