"""Write `options/train_*.yml` and `options/test_*.yml`, one per published model and scale, from tables below.

python scripts/generate_options.py           write the files
python scripts/generate_options.py --check   exit with 1 if a file differs from what would be written
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from lmlt_arch.archs.presets import PRESETS

OPTIONS = Path(__file__).resolve().parents[1] / "options"
SCALES = (2, 3, 4)
BENCHMARKS = ("Set5", "Set14", "B100", "Urban100", "Manga109")

TRAIN_FILE = """\
# {title} x{scale}, trained on {data} {note}.
{remarks}# {launch}

# general settings
name: {name}
model_type: {model_type}
scale: {scale}
num_gpu: auto  # 0: run on the CPU
manual_seed: {seed}

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
    batch_size_per_gpu: {batch_size}  # {batch_in_total} in total
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

# Sub-images made by `lmlt prepare`; DFLIP needs no LR images, it is downsampled while training.
TRAIN_SETS = {
    "DIV2K": """\
    type: PairedImageDataset
    dataroot_gt: datasets/DIV2K/DIV2K_train_HR_sub.lmdb
    dataroot_lq: datasets/DIV2K/DIV2K_train_LR_bicubic_X{scale}_sub.lmdb
    io_backend:
      type: lmdb
""",
    "DF2K": """\
    type: PairedImageDataset
    dataroot_gt: datasets/DF2K/DF2K_train_HR_sub.lmdb
    dataroot_lq: datasets/DF2K/DF2K_train_LR_bicubic_X{scale}_sub.lmdb
    io_backend:
      type: lmdb
""",
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


def option_files() -> dict[str, str]:
    """Name and content of every option file."""
    files = {}
    for name, model in MODELS.items():
        for scale in SCALES:
            files[f"train_{name}_x{scale}.yml"] = _train_file(name, model, scale)
            files[f"test_{name}_x{scale}.yml"] = _test_file(name, model, scale)
    return files


def _train_file(model_name: str, model: Model, scale: int) -> str:
    recipe = model.recipe
    name = f"train_{model_name}_x{scale}"
    launch = f"torchrun --nproc_per_node={recipe.gpus} basicsr/train.py -opt options/{name}.yml"
    if recipe.gpus > 1:
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


def _common(model: Model, scale: int) -> dict[str, object]:
    preset = PRESETS[model.preset]
    network = {"type": preset.arch, **preset.kwargs, "upscaling_factor": scale}
    return {
        "title": preset.title,
        "scale": scale,
        "data": model.data,
        "model_type": model.recipe.model_type,
        "seed": model.recipe.seed,
        "network": "".join(f"  {key}: {_yaml(value)}\n" for key, value in network.items()),
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
        for pattern in ("train_*.yml", "test_*.yml")
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
