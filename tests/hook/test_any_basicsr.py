"""Whatever `basicsr` is, it imports and trains as it does without the plugin."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.throwaway import Environment, clean_environment, stock_basicsr

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("users_training.py")
RELEASES = ("1.3.4.9", "1.3.5", "1.4.0", "1.4.1", "1.4.2")

OPTIONS = """
name: {name}
model_type: {model}
scale: 2
num_gpu: 0
manual_seed: 3
datasets:
  train: {{name: patches, type: {dataset}, dataroot_gt: {data}/gt, dataroot_lq: {data}/lq,
    io_backend: {{type: disk}}, gt_size: 32, use_hflip: true, use_rot: true, num_worker_per_gpu: {workers},
    batch_size_per_gpu: 2, dataset_enlarge_ratio: 2}}
  val: {{name: patches, type: PairedImageDataset, dataroot_gt: {data}/gt, dataroot_lq: {data}/lq,
    io_backend: {{type: disk}}}}
network_g: {network}
path: {{pretrain_network_g: ~}}
train:
  ema_decay: 0.9
  optim_g: {{type: Adam, lr: !!float 1e-3}}
  scheduler: {{type: MultiStepLR, milestones: [3], gamma: 0.5}}
  total_iter: {iterations}
  pixel_opt: {{type: L1Loss, loss_weight: 1.0}}
  {extra}
val: {{val_freq: 2, save_img: false, metrics: {metrics}}}
logger: {{print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}}
"""

STOCK = {
    "model": "SRModel",
    "dataset": "PairedImageDataset",
    "network": "{type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 2}",
    "extra": "warmup_iter: -1",
    "metrics": "{psnr: {type: calculate_psnr, crop_border: 2}}",
}
USERS = {
    "model": "ESRModel",
    "dataset": "PairedCropDataset, my_gain: 0.5",
    "network": "{type: LMLT, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 2}",
    "extra": "my_weight: 0.5\n  my_opt: {type: FFTLoss, my_power: 2}",
    "metrics": "{mine: {type: calculate_lpips, my_border: 3}}",
}
OURS = {
    "model": "LMLTModel",
    "dataset": "PairedImageDataset",
    "network": "{type: ESC, dim: 8, pdim: 4, kernel_size: 5, n_blocks: 1, conv_blocks: 1, window_size: 8, "
    "num_heads: 2, upscaling_factor: 2, exp_ratio: 1.25}",
    "extra": "fft_opt: {type: L1Loss}",
    "metrics": "{psnr: {type: calculate_psnr, crop_border: 2}}",
}


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Downloads and unpacks the sdist of a release; nothing is built."""
    folder = tmp_path_factory.mktemp("releases")

    def release(version: str) -> Path:
        home = folder / f"basicsr-{version}"
        if not home.exists():
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
            command += ["--no-build-isolation", "-d", str(folder), f"basicsr=={version}"]
            done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
            if done.returncode != 0:
                pytest.skip(f"BasicSR {version} cannot be downloaded: no network? {done.stderr[-300:]}")
            with tarfile.open(folder / f"basicsr-{version}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
        return home

    return release


Write = Callable[..., str]


@pytest.fixture
def write(options: Callable[..., Path], tmp_path: Path) -> Write:
    """Writes an option file; the images are those of `options`."""
    options()

    def write_file(name: str, kind: dict[str, str], iterations: int, workers: int = 0) -> str:
        path = tmp_path / f"{name}_{iterations}.yml"
        values = {**kind, "name": name, "iterations": iterations, "workers": workers}
        path.write_text(OPTIONS.format(**values, data=tmp_path / "data"))
        return str(path)

    return write_file


def _figures(said: str) -> list[str]:
    """The lines of a log on losses and validations, without times."""
    return re.findall(r"iter: +\d+, lr:\S+|(?:l_pix|mine): \S+|# .*", said)


def _weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    found = torch.load(folder / "experiments" / name / "models" / "net_g_latest.pth", weights_only=True)
    return {f"{key}.{part}": value for key in found for part, value in found[key].items()}


def _assert_same(folders: list[Path], name: str) -> None:
    with_plugin, without = (_weights(folder, name) for folder in folders)
    assert with_plugin.keys() == without.keys()
    assert all(torch.equal(with_plugin[key], without[key]) for key in without)


@pytest.mark.parametrize("version", RELEASES)
def test_releases(
    version: str,
    releases: Callable[[str], Path],
    plain: Environment,
    plugged: Environment,
    write: Write,
    tmp_path: Path,
) -> None:
    """A stock training and one of a user's classes under our names: the same with and without the plugin.

    Both with and without data workers, and resumed. Ours trains and resumes too.
    """
    home = releases(version)
    runs = [
        f"new={write('stock', STOCK, 2)}",
        f"auto={write('stock', STOCK, 5)}",
        f"new={write('users', USERS, 2, workers=2)}",
        f"auto={write('users', USERS, 5, workers=2)}",
    ]
    ours = [
        f"new={write('ours', OURS, 2)}",
        f"auto={write('ours', OURS, 5)}",
        f"new={write('whole', OURS, 5)}",
    ]
    folders, figures = [tmp_path / "with", tmp_path / "without"], []
    for folder, environment, more in zip(folders, (plugged, plain), (ours, []), strict=True):
        folder.mkdir()
        said = environment.run(PROGRAM, home, folder, *runs, *more, cwd=tmp_path)
        assert said.count(f"with BasicSR {version}") == len(runs) + len(more)
        assert said.count("Resuming training from epoch: ") == 2 + bool(more)
        assert "basicsr-lmlt" not in said
        figures.append(_figures(said.partition(f"run {ours[0]}")[0]))
    assert figures[0] == figures[1]
    assert len(figures[0]) > 25
    for name in ("stock", "users"):
        _assert_same(folders, name)

    resumed, whole = (_weights(folders[0], name) for name in ("ours", "whole"))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_two_processes(plain: Environment, plugged: Environment, write: Write, tmp_path: Path) -> None:
    folders, figures = [tmp_path / "with", tmp_path / "without"], []
    run = f"new={write('users', USERS, 3)}"
    for folder, environment in zip(folders, (plugged, plain), strict=True):
        folder.mkdir()
        home = stock_basicsr().parent
        said = environment.torchrun(PROGRAM, home, folder, run, cwd=tmp_path, processes=2)
        assert "world_size: 2" in said
        figures.append(_figures(said))
    assert figures[0] == figures[1]
    _assert_same(folders, "users")


# What a `basicsr` may be that is not BasicSR's: its files, a program that imports it, and whether that fails.
STRANGERS: dict[str, tuple[dict[str, str], str, bool]] = {
    "a module": ({"basicsr.py": "print('a module')"}, "import basicsr; print(basicsr.__file__[-10:])", False),
    "a namespace package": (
        {"basicsr/utils/tool.py": "x = 1"},
        "import basicsr.utils.tool; print(basicsr.utils.tool.x, basicsr.__path__)",
        False,
    ),
    "an empty package": ({"basicsr/__init__.py": ""}, "import basicsr; print(basicsr.__path__)", False),
    "a package that raises": (
        {"basicsr/__init__.py": "raise OSError('own error')"},
        "import basicsr",
        True,
    ),
    "other registries": (
        {
            "basicsr/__init__.py": "from basicsr.utils.registry import ARCH_REGISTRY",
            "basicsr/utils/__init__.py": "",
            "basicsr/utils/registry.py": "class Registry(dict): pass\nARCH_REGISTRY = Registry(a=1)\n"
            "MODEL_REGISTRY = None",
        },
        "import basicsr; print(basicsr.ARCH_REGISTRY)",
        False,
    ),
    "a fork of 1.2": (
        {
            "basicsr/__init__.py": "",
            "basicsr/utils/__init__.py": "from .options import parse\nfrom .dist_util import init_dist",
            "basicsr/utils/options.py": "def parse(path, is_train=True):\n    return {'path': path}",
            "basicsr/utils/dist_util.py": "def init_dist(launcher):\n    return launcher",
            "basicsr/utils/misc.py": "def set_seed():\n    pass",
            "basicsr/utils/file_client.py": "class Backend:\n    pass",
            "basicsr/models/__init__.py": "def create_model(opt):\n    return opt",
            "basicsr/models/base_model.py": "class BaseModel:\n    pass",
            "basicsr/models/sr_model.py": "from .base_model import BaseModel as SRModel",
            "basicsr/models/losses/__init__.py": "",
            "basicsr/data/__init__.py": "def create_dataset(opt):\n    return opt",
            "basicsr/data/data_util.py": "def paths():\n    return []",
            "basicsr/metrics/__init__.py": "",
            "basicsr/metrics/fid.py": "import math",
            "basicsr/train.py": "from basicsr.utils import parse\nfrom basicsr.models import create_model\n"
            "def main():\n    return create_model(parse('x.yml'))",
        },
        "from basicsr.train import main\nimport basicsr.models.sr_model, basicsr.utils.misc\n"
        "import basicsr.utils.file_client, basicsr.data.data_util, basicsr.metrics.fid\nprint(main())",
        False,
    ),
    "a module that deletes its name": (
        {"basicsr/__init__.py": "", "basicsr/archs/__init__.py": "x = 1\ndel __name__"},
        "import basicsr.archs; print(basicsr.archs.x)",
        False,
    ),
    "a version that is no text": (
        {
            "VERSION": "\udcff\udcfe",
            "basicsr/__init__.py": "try:\n    from .version import __version__\n"
            "except ImportError:\n    __version__ = 'of the fork'",
        },
        "import basicsr; print(basicsr.__version__)",
        False,
    ),
    "names that are not what they were": (
        {
            "basicsr/__init__.py": "from . import train",
            "basicsr/utils/__init__.py": "",
            "basicsr/utils/options.py": "parse_options = 5\ninit_dist = None",
            "basicsr/models/__init__.py": "build_model = 'text'",
            "basicsr/models/base_model.py": "class BaseModel:\n    validation = model_to_device = None",
            "basicsr/train.py": "from .utils import options\nfrom .models import base_model\n"
            "load_resume_state = create_train_val_dataloader = build_model = build_dataset = 3\n"
            "EnlargedSampler = object",
        },
        "import basicsr; print(basicsr.train.load_resume_state)",
        False,
    ),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_strangers(what: str, plain: Environment, plugged: Environment, tmp_path: Path) -> None:
    """Also where warnings are errors: the output of the program is the same."""
    files, program, fails = STRANGERS[what]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "program.py").write_text(program)
    said = [
        environment.run("-W", "error", "program.py", cwd=tmp_path, fails=fails).splitlines()
        for environment in (plugged, plain)
    ]
    assert said[0][-1:] == said[1][-1:]
    assert fails or said[0] == said[1]
