"""Built distributions, environments that have them, and a training small enough for a test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.throwaway import Distributions, Environment, clean_environment, link_farm

SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CITATION.cff")
FOLDERS = ("lmlt_arch", "realsr", "basicsr", "options")

OPTIONS = """
name: tiny
model_type: SRModel
scale: 2
num_gpu: 1
manual_seed: 0
datasets:
  {phase}: {{name: patches, type: PairedImageDataset, dataroot_gt: {data}/gt, dataroot_lq: {data}/lq,
    io_backend: {{type: disk}}, gt_size: 32, use_hflip: true, use_rot: true, num_worker_per_gpu: {workers},
    batch_size_per_gpu: 2, dataset_enlarge_ratio: 2}}
network_g: {{type: LMLT, dim: 12, n_blocks: 1, upscaling_factor: 2}}
path: {{pretrain_network_g: {weights}}}
train:
  optim_g: {{type: Adam, lr: !!float 1e-3}}
  scheduler: {{type: MultiStepLR, milestones: [3], gamma: 0.5}}
  total_iter: {iterations}
  pixel_opt: {{type: L1Loss, loss_weight: 1.0}}
  fft_opt: {{type: FFTLoss, loss_weight: 0.05}}
val: {{val_freq: 2, save_img: false, suffix: ~, metrics: {{psnr: {{type: calculate_psnr, crop_border: 2}}}}}}
logger: {{print_freq: 1, save_checkpoint_freq: 1, use_tb_logger: true}}
dist_params: {{backend: nccl, port: 29500, timeout: 120}}
"""


@pytest.fixture(scope="session")
def copy_of_checkout(repo_root: Path) -> Callable[[Path], Path]:
    """Makes a copy of what is under version control here, apart from the tests."""

    def copy(target: Path) -> Path:
        target.mkdir(parents=True)
        for name in (*SOURCES, *(path.name for path in repo_root.glob("*.pth"))):
            shutil.copy2(repo_root / name, target)
        for name in FOLDERS:
            shutil.copytree(repo_root / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        (target / "tests").mkdir()
        (target / "tests" / "__init__.py").touch()
        return target

    return copy


@pytest.fixture(scope="session")
def distributions(
    tmp_path_factory: pytest.TempPathFactory, copy_of_checkout: Callable[[Path], Path]
) -> Distributions:
    """Wheel built from the sdist built from the checkout, as `python -m build` does."""
    tree = copy_of_checkout(tmp_path_factory.mktemp("source") / "checkout")
    command = [sys.executable, "-m", "build", "--no-isolation", str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = (list((tree / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    return Distributions(tree, wheel, sdist)


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_farm(tmp_path_factory.mktemp("libraries") / "site")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, libraries: Path) -> Environment:
    """BasicSR's libraries, but neither BasicSR nor the plugin."""
    return Environment(tmp_path_factory.mktemp("plain") / "env", libraries)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, libraries: Path) -> Environment:
    """Stock BasicSR without the plugin."""
    environment = Environment(tmp_path_factory.mktemp("stock") / "env", libraries)
    environment.add_basicsr()
    return environment


@pytest.fixture(scope="session")
def plugged(
    tmp_path_factory: pytest.TempPathFactory, libraries: Path, distributions: Distributions
) -> Environment:
    """The plugin from its wheel, without BasicSR: for a user with a checkout of BasicSR."""
    environment = Environment(tmp_path_factory.mktemp("plugged") / "env", libraries)
    environment.install(distributions.wheel)
    return environment


@pytest.fixture(scope="session")
def installed(
    tmp_path_factory: pytest.TempPathFactory, libraries: Path, distributions: Distributions
) -> Environment:
    """Stock BasicSR with the plugin from its wheel."""
    environment = Environment(tmp_path_factory.mktemp("installed") / "env", libraries)
    environment.add_basicsr()
    environment.install(distributions.wheel)
    return environment


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., Path]:
    """Writes an option file for a few iterations on four small images."""
    data = tmp_path / "data"
    rng = np.random.default_rng(0)
    for folder in ("gt", "lq"):
        (data / folder).mkdir(parents=True)
    for index in range(4):
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(data / "gt" / f"{index}.png"), image)
        cv2.imwrite(str(data / "lq" / f"{index}.png"), cv2.resize(image, (32, 32)))

    def write(phase: str = "train", iterations: int = 2, workers: int = 0, weights: object = "~") -> Path:
        path = tmp_path / f"{phase}_{iterations}.yml"
        text = OPTIONS.format(phase=phase, iterations=iterations, workers=workers, weights=weights, data=data)
        if phase == "train":
            validation = f"  val: {{name: patches, type: PairedImageDataset, dataroot_gt: {data}/gt, "
            validation += f"dataroot_lq: {data}/lq, io_backend: {{type: disk}}}}\nnetwork_g"
            text = text.replace("network_g", validation, 1)
        path.write_text(text)
        return path

    return write
