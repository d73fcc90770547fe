"""Write `options/{train,finetune,test}_*.yml`, for each published model and scale, from tables below.

python scripts/generate_options.py           write the files
python scripts/generate_options.py --check   exit with 1 if a file differs from what would be written
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from lmlt_arch.archs.presets import PRESETS

OPTIONS = Path(__file__).resolve().parents[1] / "options"
SCALES = (2, 3, 4)
BENCHMARKS = ("Set5", "Set14", "B100", "Urban100", "Manga109")

FOR_EDITORS = "# yaml-language-server: $schema=schema.json\n"

TRAIN_FILE = """\
# {title} x{scale}, trained on {data} {note}.
{remarks}# {launch}

# general settings
name: {name}
model_type: {model_type}
scale: {scale}
num_gpu: auto  # 0: run on the CPU
manual_seed: {seed}
lmlt:
  total_batch: {batch_in_total}  # images of a step over all processes; another number is warned of

# dataset and data loader settings
datasets:
  train:
    name: {data}
{train_set}
    gt_size: {gt_size}  # LR patches of 64 x 64
    use_hflip: true
    use_rot: true

    # data loader
    num_worker_per_gpu: 6
    batch_size_per_gpu: {batch_size}  # of each process
    dataset_enlarge_ratio: {dataset_enlarge_ratio}
    persistent_workers: true  # do not start them anew in every epoch
    prefetch_mode: ~

{benchmarks}
# network structures
network_g:
{network}
# path
path:
{start}  strict_load_g: true
  resume_state: ~

# training settings
train:
  ema_decay: 0.999
{train}
# validation settings
val:
  val_freq: !!float 5e3
  save_img: false

{metrics}
# logging settings
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb:
    project: ~
    resume_id: ~
"""

TEST_FILE = """\
# {title} x{scale}, trained on {data}: PSNR and SSIM on Y over five benchmarks.
# python basicsr/test.py -opt options/{name}.yml

# general settings
name: {name}
model_type: {model_type}
scale: {scale}
num_gpu: auto  # 0: run on the CPU
manual_seed: {seed}

# dataset settings
datasets:
{benchmarks}
# network structures
network_g:
{network}
# path
path:
  pretrain_network_g: experiments/train_{model}_x{scale}/models/net_g_latest.pth
  param_key_g: {param_key}  # the weights that the published figures were made with
  strict_load_g: true

# validation settings
val:
  save_img: true
  suffix: ~  # add a suffix to saved images; if None, use the name of this experiment

{metrics}"""

BENCHMARK = """\
  {phase}:
    name: {name}
    type: PairedImageDataset
    dataroot_gt: datasets/benchmark/{name}/HR
    dataroot_lq: datasets/benchmark/{name}/LR_bicubic/X{scale}
    filename_tmpl: '{{}}x{scale}'
    io_backend:
      type: disk
"""

METRICS = """\
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: {scale}
      test_y_channel: true
      better: higher  # the higher, the better
    ssim:
      type: calculate_ssim
      crop_border: {scale}
      test_y_channel: true
      better: higher  # the higher, the better
"""

ANY_SCALE_TRAIN = """\
# {title}, at any scale: trained on DIV2K at scales drawn from [1, 4], as published.
# torchrun --nproc_per_node=4 basicsr/train.py -opt options/train_{model}.yml --launcher pytorch

# general settings
name: train_{model}
model_type: ArbitraryScaleModel
scale: 4  # where the size of the ground truth does not tell
num_gpu: auto  # 0: run on the CPU
manual_seed: 0
lmlt:
  total_batch: 32  # images of a step over all processes; another number is warned of

# dataset and data loader settings
datasets:
  train:
    name: DIV2K
    type: ArbitraryScaleDataset  # LR is made from HR on the fly, at one scale for each batch
    dataroot_gt: datasets/DIV2K/DIV2K_train_HR_sub.lmdb
    io_backend:
      type: lmdb

    lq_size: 64
    scales: [1, 4]
    non_square: 0  # share of the batches in which each axis has a scale of its own
    use_hflip: true
    use_rot: true

    # data loader
    num_worker_per_gpu: 6
    batch_size_per_gpu: 8  # of each process
    dataset_enlarge_ratio: 1
    persistent_workers: true  # do not start them anew in every epoch
    prefetch_mode: ~

{sets}
# network structures
network_g:
{network}
# path
path:
  pretrain_network_g: ~
  strict_load_g: true
  resume_state: ~

# training settings
train:
  ema_decay: 0
  queries: 2304  # random pixels of each crop that are compared; leave it out to compare all

  optim_g:
    type: Adam
    lr: !!float 2e-4
    weight_decay: 0
    betas: [0.9, 0.999]

  scheduler:
    type: MultiStepLR
    milestones: [250000, 400000, 450000, 475000]
    gamma: 0.5

  total_iter: 500000
  warmup_iter: -1  # no warm up

  # losses
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean

# validation settings
val:
  val_freq: !!float 5e3
  save_img: false

{metrics}
# logging settings
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb:
    project: ~
    resume_id: ~
"""

ANY_SCALE_TEST = """\
# {title}: PSNR and SSIM on Y over five benchmarks, at scales seen in training (to x4) and unseen ones.
# python basicsr/test.py -opt options/test_{model}.yml

# general settings
name: test_{model}
model_type: ArbitraryScaleModel
scale: 4  # where the size of the ground truth does not tell
num_gpu: auto  # 0: run on the CPU
manual_seed: 0

# tile:  # for images too large for the memory
#   tile_size: 512
#   tile_pad: 32

# dataset settings
datasets:
{sets}
# network structures
network_g:
{network}
# path
path:
  pretrain_network_g: experiments/train_{model}/models/net_g_latest.pth
  strict_load_g: true

# validation settings
val:
  save_img: true
  suffix: ~  # add a suffix to saved images; if None, use the name of this experiment

{metrics}"""

ANY_SCALE_SET = """\
  {phase}:
    name: {name}_x{label}
    type: ArbitraryScaleDataset  # LR is made from HR
    dataroot_gt: datasets/benchmark/{name}/HR
    at_scale: {scale}{note}
    io_backend:
      type: disk
"""

REAL_FILE = """\
{head}
# general settings
name: {name}
model_type: {model_type}
scale: {scale}
num_gpu: auto  # 0: run on the CPU
manual_seed: 0
{total}{synthesis}
# dataset and data loader settings
datasets:
{datasets}
# network structures
network_g:
{network}
{network_d}# path
path:
{path}  resume_state: ~

# training settings
train:
  ema_decay: 0.999
{train}
# validation settings
val:
  val_freq: {val_freq}
  save_img: false
{val}
# logging settings
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb:
    project: ~
    resume_id: ~
"""

TOTAL_BATCH = """\
lmlt:
  total_batch: 48  # images of a step over all processes; another number is warned of
"""

# The degradation's keys outside the data set, and in it.
SYNTHESIS = """
# degradation: LQ images are made from ground truth while training. To see them beforehand:
# lmlt degrade FOLDER -o OUT -opt options/{name}.yml --seed 0

{usm}
gt_size: 256  # crops to train on
queue_size: 180  # pairs in the pool; a multiple of the batch

# first round
resize_prob: [0.2, 0.7, 0.1]  # up, down, keep
resize_range: [0.15, 1.5]
gaussian_noise_prob: 0.5
noise_range: [1, 30]
poisson_scale_range: [0.05, 3]
gray_noise_prob: 0.4
jpeg_range: [30, 95]

# second round
second_blur_prob: 0.8
resize_prob2: [0.3, 0.4, 0.3]  # up, down, keep
resize_range2: [0.3, 1.2]
gaussian_noise_prob2: 0.5
noise_range2: [1, 25]
poisson_scale_range2: [0.05, 2.5]
gray_noise_prob2: 0.4
jpeg_range2: [30, 95]
"""

KERNELS = """
    # blur kernels of both rounds, and the last filter
    blur_kernel_size: 21
    kernel_list: [iso, aniso, generalized_iso, generalized_aniso, plateau_iso, plateau_aniso]
    kernel_prob: [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    sinc_prob: 0.1
    blur_sigma: [0.2, 3]
    betag_range: [0.5, 4]
    betap_range: [1, 2]

    blur_kernel_size2: 21
    kernel_list2: [iso, aniso, generalized_iso, generalized_aniso, plateau_iso, plateau_aniso]
    kernel_prob2: [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    sinc_prob2: 0.1
    blur_sigma2: [0.2, 1.5]
    betag_range2: [0.5, 4]
    betap_range2: [1, 2]

    final_sinc_prob: 0.8
"""

GT_USM = "gt_usm: true  # sharpen ground truth: both the target and what is degraded\n"
GAN_USM = """\
# which targets are sharpened
l1_gt_usm: true
percep_gt_usm: true
gan_gt_usm: false
"""

HQ_SET = """\
  train:
    name: {name}
    type: HQImageDataset  # a folder, searched at any depth, or a list of them (or RealESRGANDataset)
    dataroot_gt: {root}
    io_backend:
      type: disk
    crop_pad_size: 400  # cut out of a photo before it is degraded; gt_size is cut out of that
    use_hflip: true
    use_rot: false
{kernels}{loader}
  val:
    name: {val_name}
    type: HQImageDataset  # degraded by the model, in every validation alike
    dataroot_gt: {val_root}
    io_backend:
      type: disk
"""

PAIRED_SET = """\
  train:
    name: my_pairs
    type: PairedImageDataset
    # Equal file names in both folders. Each pair must be aligned to the pixel, and the image in gt exactly
    # {scale} times as wide and high as its counterpart in lq.
    dataroot_gt: datasets/my_pairs/train/gt
    dataroot_lq: datasets/my_pairs/train/lq
    io_backend:
      type: disk
    gt_size: 256  # crops to train on; no image may be smaller
    use_hflip: true
    use_rot: false
{loader}
  val:
    name: my_pairs_val  # pairs that are not trained on
    type: PairedImageDataset
    dataroot_gt: datasets/my_pairs/val/gt
    dataroot_lq: datasets/my_pairs/val/lq
    io_backend:
      type: disk
"""

LOADER = """
    # data loader
    num_worker_per_gpu: {workers}
    batch_size_per_gpu: {batch}{note}
    dataset_enlarge_ratio: {enlarge}
    persistent_workers: true  # do not start them anew in every epoch
    prefetch_mode: ~
"""

NETWORK_D = """\
network_d:
  type: UNetDiscriminatorSN
  num_in_ch: 3
  num_feat: 64
  skip_connection: true

"""

VGG_KEY = """\
  # vgg19-dcbb9e9d.pth for the perceptual loss, unless it is in torchvision's cache already
  vgg: ~
"""

MSE_TRAIN = """
  optim_g:
    type: AdamW
    lr: !!float 5e-4
    weight_decay: 0
    betas: [0.9, 0.9]

  scheduler:
    type: MultiStepLR
    milestones: [100000]
    gamma: 0.4

  total_iter: 1000000
  warmup_iter: -1  # no warm up

  # losses
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
"""

GAN_TRAIN = """{freeze}
  optim_g:
    type: Adam
    lr: !!float {lr}
    weight_decay: 0
    betas: [0.9, 0.99]
  optim_d:
    type: Adam
    lr: !!float {lr}
    weight_decay: 0
    betas: [0.9, 0.99]

  scheduler:
    type: MultiStepLR
    milestones: [{milestone}]
    gamma: 0.5

  total_iter: {total_iter}
  warmup_iter: -1  # no warm up

  # losses
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
  perceptual_opt:
    type: PerceptualLoss
    layer_weights:  # before ReLU
      conv1_2: 0.1
      conv2_2: 0.1
      conv3_4: 1
      conv4_4: 1
      conv5_4: 1
    vgg_type: vgg19
    use_input_norm: true
    perceptual_weight: 1.0
    style_weight: 0
    range_norm: false
    criterion: l1
  gan_opt:
    type: GANLoss
    gan_type: vanilla
    real_label_val: 1.0
    fake_label_val: 0.0
    loss_weight: !!float 1e-1

  net_d_iters: 1  # train the network every so many iterations
{warmup}"""

FREEZE = """
  # Layers that stay as they are, by the beginnings of their names: fewer photographs need be seen, less is
  # forgotten. blocks.0 to blocks.9 are the body, to_img enlarges.
  # freeze: [proj, plk_filter, blocks.0, blocks.1, blocks.2]
"""

D_WARMUP = """\
  # The discriminator starts from nothing: it learns alone for so long, lest it lead the network astray.
  net_d_init_iters: 1000
  # gradient_penalty:  # steadier where there are few photographs
  #   type: r1
  #   weight: 10.0
  #   every: 1
"""

CHECKPOINT = """\
  # Where to start: the published weights, or your own experiments/.../models/net_g_latest.pth. A checkpoint
  # of another scale gives its body if strict_load_g is false; the log names the layers that start fresh.
  pretrain_network_g: experiments/pretrained_models/ESC_Real_x4.pth
  param_key_g: params_ema
  strict_load_g: true
  pretrain_network_d: ~
"""

REAL_METRICS = """\
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: {border}
      test_y_channel: true
      better: higher  # the higher, the better
    niqe:  # looks at the output alone; for images of at least 200 pixels
      type: calculate_niqe
      crop_border: {border}
      better: lower
    # lpips:  # these two need the extra [metrics]
    #   type: calculate_lpips
    #   better: lower
    # dists:
    #   type: calculate_dists
    #   better: lower
"""

FINETUNE_HEAD = """\
# Fine-tune ESC-Real x{scale} on your own photographs.
#
# Put good, sharp photographs (some hundreds or more) into datasets/my_photos/train and crops of a few others,
# of 400 to 1000 pixels, into datasets/my_photos/val; get the checkpoint and the file of VGG19 named under
# 'path'; then
#   lmlt degrade datasets/my_photos/val -o seen -opt options/{name}.yml --seed 0
# shows what the network will be given. Change the degradation below until that looks like the photographs
# you want to restore: it matters more than anything else here. Then
#   python basicsr/train.py -opt options/{name}.yml
"""

PAIRED_HEAD = """\
# Fine-tune ESC-Real x{scale} on your own pairs of a good and a bad image, such as a photo and its old scan.
#
# Put the pairs into datasets/my_pairs/, as described at the data set below; get the checkpoint and the file
# of VGG19 named under 'path'; then
#   python basicsr/train.py -opt options/{name}.yml
"""

REAL_TEST_FILE = """\
# {title} x{scale} on a folder of real photographs, without ground truth.
# python basicsr/test.py -opt options/{name}.yml

# general settings
name: {name}
model_type: ESCRealGANModel
scale: {scale}
num_gpu: auto  # 0: run on the CPU
manual_seed: 0

# tile:  # for photographs too large for the memory
#   tile_size: 512
#   tile_pad: 32

# dataset settings
datasets:
  test_1:
    name: RealPhotos
    type: SingleImageDataset
    dataroot_lq: datasets/real_photos
    io_backend:
      type: disk

  # With ground truth:
  # test_2:
  #   name: my_pairs
  #   type: PairedImageDataset
  #   dataroot_gt: datasets/my_pairs/val/gt
  #   dataroot_lq: datasets/my_pairs/val/lq
  #   io_backend:
  #     type: disk

# network structures
network_g:
{network}
# path
path:
  pretrain_network_g: experiments/train_{model}_GAN_x{scale}/models/net_g_latest.pth
  param_key_g: params_ema
  strict_load_g: true

# validation settings
val:
  save_img: true
  suffix: ~  # add a suffix to saved images; if None, use the name of this experiment

  metrics:
    niqe:
      type: calculate_niqe
      crop_border: {border}
      better: lower  # the lower, the better
    # With the extra [metrics], any measure of pyiqa that needs no ground truth:
    # musiq:
    #   type: calculate_pyiqa
    #   metric: musiq
    #   better: higher
    # With ground truth (lpips and dists also need the extra):
    # psnr:
    #   type: calculate_psnr
    #   crop_border: {border}
    #   test_y_channel: true
    #   better: higher
    # lpips:
    #   type: calculate_lpips
    #   better: lower
    # dists:
    #   type: calculate_dists
    #   better: lower
"""


@dataclass(frozen=True)
class Recipe:
    """How a family of networks was trained."""

    model_type: str
    seed: int
    gpus: int
    batch_per_gpu: int
    dataset_enlarge_ratio: int
    starts_from_x2: bool
    test_param_key: str
    train: str


@dataclass(frozen=True)
class Model:
    """A published network, its recipe and its training images."""

    preset: str
    recipe: Recipe
    data: str
    note: str = "as published"


LMLT = Recipe(
    model_type="LMLTModel",
    seed=10,
    gpus=1,
    batch_per_gpu=64,
    dataset_enlarge_ratio=10,
    starts_from_x2=False,
    test_param_key="params",
    train="""
  optim_g:
    type: Adam
    lr: !!float 1e-3
    weight_decay: 0
    betas: [0.9, 0.99]

  scheduler:  # one period: a plain cosine
    type: CosineAnnealingRestartLR
    periods: [500000]
    restart_weights: [1]
    eta_min: !!float 1e-5

  total_iter: 500000
  warmup_iter: -1  # no warm up

  # losses
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
  fft_opt:
    type: FFTLoss
    loss_weight: 0.05
    reduction: mean
""",
)

ESC = Recipe(
    model_type="ESCModel",
    seed=0,
    gpus=4,
    batch_per_gpu=16,
    dataset_enlarge_ratio=1,
    starts_from_x2=True,
    test_param_key="params_ema",
    train="""
  optim_g:
    type: AdamW
    lr: !!float 5e-4
    weight_decay: 0
    betas: [0.9, 0.9]

  scheduler:
    type: MultiStepLR
    milestones: [250000, 400000, 450000, 475000, 490000]
    gamma: 0.5

  total_iter: 500000
  warmup_iter: 20000

  # losses
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
""",
)

RAW_HINT = """\
    # The same samples with less work: take the two ..._sub_raw.lmdb that lmlt prepare --raw makes, and
    # type: PairedCropDataset
"""

# Sub-images made by `lmlt prepare`; DFLIP needs no LR images, it is downsampled while training.
TRAIN_SETS = {
    "DIV2K": """\
    type: PairedImageDataset
    dataroot_gt: datasets/DIV2K/DIV2K_train_HR_sub.lmdb
    dataroot_lq: datasets/DIV2K/DIV2K_train_LR_bicubic_X{scale}_sub.lmdb
    io_backend:
      type: lmdb
"""
    + RAW_HINT,
    "DF2K": """\
    type: PairedImageDataset
    dataroot_gt: datasets/DF2K/DF2K_train_HR_sub.lmdb
    dataroot_lq: datasets/DF2K/DF2K_train_LR_bicubic_X{scale}_sub.lmdb
    io_backend:
      type: lmdb
"""
    + RAW_HINT,
    "DFLIP": """\
    type: DownsampleImageDataset  # LR is made from HR on the fly
    dataroot_gt: datasets/DFLIP  # a folder (or link) in it for each of DIV2K, Flickr2K, LSDIR, DiverSeg-IP
    io_backend:
      type: disk
""",
}

MODELS = {
    "LMLT_tiny": Model("LMLT_tiny", LMLT, "DF2K"),
    "LMLT": Model("LMLT", LMLT, "DF2K"),
    "LMLT_large": Model("LMLT_large", LMLT, "DF2K"),
    "ESC": Model("ESC", ESC, "DIV2K"),
    "ESC_light": Model("ESC_light", ESC, "DIV2K"),
    "ESC_FP": Model("ESC_FP", ESC, "DIV2K"),
    # Its weights are published, its training options are not.
    "ESC_XL": Model("ESC_XL", ESC, "DF2K", "with the recipe of ESC"),
    "ESC_DFLIP": Model("ESC", ESC, "DFLIP"),
}

# Networks for real photographs: preset by the name in file names.
REAL_MODELS = {"ESCReal": "ESC_Real", "ESCRealM": "ESC_Real_M"}


# Networks of any scale: preset by the name in file names.
ANY_SCALE_MODELS = {"ESC_LTE": "ESC_LTE"}
# Seen in training, and unseen; in testing also fractions and another aspect.
EVALUATED = (2, 3, 4, 6, 8, 12)
EVALUATED_ODDLY = ("2.7", "[1.5, 3.5]")


def option_files() -> dict[str, str]:
    """Name and content of every option file."""
    files = {}
    for name, model in MODELS.items():
        for scale in SCALES:
            files[f"train_{name}_x{scale}.yml"] = _train_file(name, model, scale)
            files[f"test_{name}_x{scale}.yml"] = _test_file(name, model, scale)
    for name, preset in REAL_MODELS.items():
        for scale in PRESETS[preset].scales:
            files |= _real_files(name, preset, scale)
    for name, preset in ANY_SCALE_MODELS.items():
        files |= _any_scale_files(name, preset)
    return {name: FOR_EDITORS + content for name, content in files.items()}


def _train_file(model_name: str, model: Model, scale: int) -> str:
    recipe = model.recipe
    name = f"train_{model_name}_x{scale}"
    # The launcher also where one process is enough: without it, the GPUs there are multiply the batch.
    launch = f"torchrun --nproc_per_node={recipe.gpus} basicsr/train.py -opt options/{name}.yml"
    launch += " --launcher pytorch"
    remarks, start = "", "  pretrain_network_g: ~\n"
    if recipe.starts_from_x2 and scale != 2:
        remarks = f"# Starts from the x2 network: train options/train_{model_name}_x2.yml first.\n"
        start = (
            f"  # the last layer of the x2 network is resized to x{scale}\n"
            f"  pretrain_network_g: experiments/train_{model_name}_x2/models/net_g_latest.pth\n"
            "  param_key_g: params_ema\n"
        )
    return TRAIN_FILE.format(
        **_common(model, scale),
        name=name,
        note=model.note,
        remarks=remarks,
        launch=launch,
        train_set=TRAIN_SETS[model.data].format(scale=scale),
        gt_size=64 * scale,
        batch_size=recipe.batch_per_gpu,
        batch_in_total=recipe.batch_per_gpu * recipe.gpus,
        dataset_enlarge_ratio=recipe.dataset_enlarge_ratio,
        benchmarks=BENCHMARK.format(phase="val", name=BENCHMARKS[0], scale=scale),
        start=start,
        train=recipe.train,
    )


def _test_file(model_name: str, model: Model, scale: int) -> str:
    return TEST_FILE.format(
        **_common(model, scale),
        name=f"test_{model_name}_x{scale}",
        model=model_name,
        benchmarks="\n".join(
            BENCHMARK.format(phase=f"test_{number}", name=benchmark, scale=scale)
            for number, benchmark in enumerate(BENCHMARKS, 1)
        ),
        param_key=model.recipe.test_param_key,
    )


def _real_files(model: str, preset: str, scale: int) -> dict[str, str]:
    """Both stages and testing; fine-tuning too for the network with published weights."""
    names = {stage: f"train_{model}_{stage}_x{scale}" for stage in ("MSE", "GAN")}
    title = PRESETS[preset].title
    common = {
        "scale": scale,
        "network": _network(preset, scale),
        "val_freq": "!!float 5e3",
        "val": "\n" + REAL_METRICS.format(border=scale),
    }
    launch = "torchrun --nproc_per_node=4 basicsr/train.py -opt options/{}.yml --launcher pytorch"
    loader = LOADER.format(workers=6, batch=12, note="  # of each process", enlarge=1)
    published = HQ_SET.format(
        name="DF2K_multiscale_OST",
        root="datasets/DF2K_multiscale_OST",
        kernels=KERNELS,
        loader=loader,
        val_name="B100",
        val_root="datasets/benchmark/B100/HR",
    )
    files = {}
    for stage, name in names.items():
        gan = stage == "GAN"
        head = f"# {title} x{scale}, stage {2 if gan else 1}: "
        head += "L1, perceptual and adversarial losses.\n" if gan else "L1 loss.\n"
        head += f"# Starts from stage 1: train options/{names['MSE']}.yml first.\n" if gan else ""
        start = (
            f"experiments/{names['MSE']}/models/net_g_latest.pth\n  param_key_g: params_ema" if gan else "~"
        )
        usual = {"freeze": "", "lr": "1e-4", "milestone": 400000, "total_iter": 400000}
        files[f"{name}.yml"] = REAL_FILE.format(
            **common,
            head=f"{head}# {launch.format(name)}\n",
            name=name,
            model_type=f"ESCReal{stage}Model",
            total=TOTAL_BATCH,
            synthesis=SYNTHESIS.format(name=name, usm=GAN_USM if gan else GT_USM),
            datasets=published,
            network_d=NETWORK_D if gan else "",
            path=f"  pretrain_network_g: {start}\n  strict_load_g: true\n{VGG_KEY if gan else ''}",
            train=GAN_TRAIN.format(**usual, warmup="  net_d_init_iters: 0\n") if gan else MSE_TRAIN,
        )
    name = f"test_{model}_x{scale}"
    files[f"{name}.yml"] = REAL_TEST_FILE.format(**common, title=title, name=name, model=model, border=scale)
    if model == "ESCReal":
        files |= _finetune_files(common, scale)
    return files


def _any_scale_files(model: str, preset: str) -> dict[str, str]:
    common = {
        "title": PRESETS[preset].title,
        "model": model,
        "network": _network(preset, PRESETS[preset].scales[0]),
        "metrics": METRICS.format(scale=4).replace(
            "crop_border: 4", "crop_border: 4  # where a data set has no at_scale, which is taken otherwise"
        ),
    }
    validated = [(BENCHMARKS[0], str(scale)) for scale in EVALUATED]
    tested = [(name, str(scale)) for name in BENCHMARKS for scale in (*EVALUATED, *EVALUATED_ODDLY)]
    return {
        f"train_{model}.yml": ANY_SCALE_TRAIN.format(**common, sets=_any_scale_sets("val", validated)),
        f"test_{model}.yml": ANY_SCALE_TEST.format(**common, sets=_any_scale_sets("test", tested)),
    }


def _any_scale_sets(phase: str, sets: list[tuple[str, str]]) -> str:
    return "\n".join(
        ANY_SCALE_SET.format(
            phase=f"{phase}_{number}",
            name=name,
            scale=scale,
            label=scale.strip("[]").replace(", ", "_"),
            note="  # vertical, horizontal" if "," in scale else "",
        )
        for number, (name, scale) in enumerate(sets, 1)
    )


def _finetune_files(common: dict[str, object], scale: int) -> dict[str, str]:
    own, paired = f"finetune_ESCReal_x{scale}", f"finetune_ESCReal_paired_x{scale}"
    loader = LOADER.format(workers=4, batch=6, note="  # less if the memory is short", enlarge=10)
    photos = HQ_SET.format(
        name="my_photos",
        root="datasets/my_photos/train",
        kernels=KERNELS,
        loader=loader,
        val_name="my_photos_val",
        val_root="datasets/my_photos/val",
    )
    gentle = {"freeze": FREEZE, "lr": "2e-5", "milestone": 30000, "total_iter": 50000, "warmup": D_WARMUP}
    files = {}
    for name, head, synthesis, datasets in (
        (own, FINETUNE_HEAD, SYNTHESIS.format(name=own, usm=GAN_USM), photos),
        (
            paired,
            PAIRED_HEAD,
            f"high_order_degradation: false  # the data set has the LQ images\n\n{GAN_USM}",
            PAIRED_SET.format(scale=scale, loader=loader),
        ),
    ):
        files[f"{name}.yml"] = REAL_FILE.format(
            **{**common, "val_freq": 1000},
            head=head.format(name=name, scale=scale),
            name=name,
            model_type="ESCRealGANModel",
            total="",
            synthesis=synthesis,
            datasets=datasets,
            network_d=NETWORK_D,
            path=CHECKPOINT + VGG_KEY,
            train=GAN_TRAIN.format(**gentle),
        )
    return files


def _network(preset: str, scale: int) -> str:
    """The section `network_g`."""
    found = PRESETS[preset]
    network = {"type": found.arch, **found.kwargs, "upscaling_factor": scale}
    return "".join(f"  {key}: {_yaml(value)}\n" for key, value in network.items())


def _common(model: Model, scale: int) -> dict[str, object]:
    preset = PRESETS[model.preset]
    return {
        "title": preset.title,
        "scale": scale,
        "data": model.data,
        "model_type": model.recipe.model_type,
        "seed": model.recipe.seed,
        "network": _network(model.preset, scale),
        "metrics": METRICS.format(scale=scale),
    }


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a file differs")
    check = parser.parse_args().check
    wanted = option_files()
    present = {
        path.name: path.read_text(encoding="utf-8")
        for pattern in ("train_*.yml", "finetune_*.yml", "test_*.yml")
        for path in OPTIONS.glob(pattern)
    }
    differing = sorted(
        name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name)
    )
    if check:
        for name in differing:
            print(f"options/{name} is not what scripts/generate_options.py writes; run it", file=sys.stderr)
        return 1 if differing else 0
    OPTIONS.mkdir(exist_ok=True)
    for name in differing:
        if name in wanted:
            (OPTIONS / name).write_text(wanted[name], encoding="utf-8")
        else:
            (OPTIONS / name).unlink()
    print(f"{len(wanted)} option files, {len(differing)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
