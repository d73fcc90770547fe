"""Training, resuming and testing by the commands a user types: disk and LMDB, one process and two."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from helpers import forked
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lmlt_arch.cli import main

pytestmark = pytest.mark.slow
SCALE = 2


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight smooth 48 x 44 pictures and their halves, in folders, LMDBs and raw LMDBs `HR` and `LR`."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    pictures: dict[str, dict[str, np.ndarray]] = {"HR": {}, "LR": {}}
    for number in range(8):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        hr = cv2.resize(coarse, (44, 48), interpolation=cv2.INTER_CUBIC)
        pictures["HR"][f"p{number}"] = hr
        pictures["LR"][f"p{number}"] = cv2.resize(hr, (22, 24), interpolation=cv2.INTER_AREA)
    for folder, content in pictures.items():
        (root / folder).mkdir()
        for name, image in content.items():
            cv2.imwrite(str(root / folder / f"{name}.png"), image)
        files = [f"{name}.png" for name in content]
        make_lmdb_from_imgs(str(root / folder), str(root / f"{folder}.lmdb"), files, list(content))
        assert main(["raw", str(root / folder)]) == 0
    return root


def dataset(images: Path, backend: str, **more: Any) -> dict[str, Any]:
    ending = {"disk": "", "lmdb": ".lmdb", "raw": "_raw.lmdb"}[backend]
    return {
        "name": f"Set_{backend}",
        "type": "PairedCropDataset" if backend == "raw" else "PairedImageDataset",
        "dataroot_gt": str(images / f"HR{ending}"),
        "dataroot_lq": str(images / f"LR{ending}"),
        "io_backend": {"type": "disk" if backend == "disk" else "lmdb"},
        **more,
    }


def run(program: str, opt: dict[str, Any], folder: Path, repo_root: Path, processes: int, *more: str) -> str:
    """Type the command in `folder`, without torchrun for 0 processes; returns what it printed."""
    file = folder / f"{program}.yml"
    file.write_text(yaml.safe_dump(opt))
    command = [str(repo_root / "basicsr" / f"{program}.py"), "-opt", str(file), *more]
    command += ["--launcher", "pytorch"] if processes > 1 else []
    # By torchrun once: the imports would be half of the time.
    if processes != 1:
        return forked.run(*command, cwd=folder, processes=processes or 1)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", "--standalone", *command]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What the tensorboard files below `folder` say: tag, iteration, value."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found[tag].update({event.step: event.value for event in events.Scalars(tag)})
    return dict(found)


@pytest.mark.parametrize(
    ("network", "processes", "first", "second", "tested"),
    [
        ("LMLT", 1, "disk", "lmdb", False),
        ("ESC", 0, "lmdb", "disk", True),
        ("ESC", 2, "disk", "raw", False),
        ("LMLT", 2, "raw", "disk", True),
    ],
)
def test_train_resume_and_test(
    repo_root: Path,
    images: Path,
    tmp_path: Path,
    tiny_networks: dict[str, dict[str, Any]],
    network: str,
    processes: int,
    first: str,
    second: str,
    tested: bool,
) -> None:
    # Without averaging, validation on two processes runs the trained network itself.
    ema = 0 if (network, processes) == ("ESC", 2) else 0.5
    # Workers are spawned, not forked, where there are two processes: seconds for each. Once is enough.
    workers = 0 if processes == 2 else 1
    later = 0 if (network, processes) == ("LMLT", 2) else 1
    template = yaml.safe_load((repo_root / "options" / f"train_{network}_x2.yml").read_text())
    opt = {
        **template,
        "name": "tiny",
        "network_g": tiny_networks[network],
        "datasets": {
            "train": dataset(
                images,
                first,
                gt_size=32,
                use_hflip=True,
                use_rot=True,
                num_worker_per_gpu=workers,
                persistent_workers=workers > 0,
                batch_size_per_gpu=2,
                dataset_enlarge_ratio=1,
            ),
            "val": dataset(images, first),
        },
        "train": {
            **template["train"],
            "total_iter": 3,
            "warmup_iter": -1,
            "ema_decay": ema,
            "grad_clip": 1.0,
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": True},
    }
    opt["val"]["val_freq"] = 2
    terms = [f"losses/{term}" for term in ("l_pix", "l_fft") if network == "LMLT" or term == "l_pix"]

    run("train", opt, tmp_path, repo_root, processes)
    logged = scalars(tmp_path / "tb_logger" / "tiny")
    for term in terms:
        assert list(logged[term]) == [1, 2, 3]
        assert all(0 < value < 10 for value in logged[term].values())
    for metric in ("psnr", "ssim"):
        assert {2, 3} <= logged[f"metrics/Set_{first}/{metric}"].keys()

    states = tmp_path / "experiments" / "tiny" / "training_states"
    assert torch.load(states / "2.state", weights_only=True)["iter"] == 2

    opt["train"]["total_iter"] = 4
    opt["datasets"] = {
        "train": {
            **opt["datasets"]["train"],
            **dataset(images, second, num_worker_per_gpu=later, persistent_workers=later > 0),
        },
        "val": dataset(images, second),
    }
    printed = run("train", opt, tmp_path, repo_root, processes, "--auto_resume")
    assert "iter: 2" in printed
    logged = scalars(tmp_path / "tb_logger" / "tiny")
    for term in terms:
        assert list(logged[term]) == [1, 2, 3, 4]
    assert 4 in logged[f"metrics/Set_{second}/psnr"]
    state = torch.load(states / "4.state", weights_only=True)
    moments = state["optimizers"][0]["state"]
    assert {int(moment["step"]) for moment in moments.values()} == {4}, "the optimizer went on where it was"
    weights = torch.load(tmp_path / "experiments/tiny/models/net_g_latest.pth", weights_only=True)
    assert list(weights) == (["params", "params_ema"] if ema else ["params"])

    if not tested:
        return
    key = list(weights)[-1]
    test = {
        "name": "tested",
        "model_type": opt["model_type"],
        "scale": SCALE,
        "num_gpu": "auto",
        "manual_seed": 0,
        "datasets": {f"test_{backend}": dataset(images, backend) for backend in ("disk", "lmdb")},
        "network_g": tiny_networks[network],
        "path": {"pretrain_network_g": "experiments/tiny/models/net_g_latest.pth", "param_key_g": key},
        "val": {**opt["val"], "save_img": True, "suffix": None},
    }
    printed = run("test", test, tmp_path, repo_root, processes)
    assert printed.count("psnr:") >= 2
    net = build_network(tiny_networks[network]).eval()
    net.load_state_dict(weights[key])
    for backend in ("disk", "lmdb"):
        saved = sorted((tmp_path / "results" / "tested" / "visualization" / f"Set_{backend}").iterdir())
        assert len(saved) == 8
        for file in saved:
            lq = cv2.imread(str(images / "LR" / f"{file.name.split('_')[0]}.png"))[..., ::-1]
            # ESC validates on whole windows (24 x 24 here), LMLT pads by itself.
            padded = np.pad(lq, ((0, 0), (0, 2), (0, 0)), mode="reflect") if network == "ESC" else lq
            with torch.no_grad():
                out = net(torch.from_numpy(padded.transpose(2, 0, 1).copy())[None].float() / 255)
            expected = out[0, :, :, : 22 * SCALE].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
            assert np.abs(cv2.imread(str(file))[..., ::-1] - expected).max() <= 1


def test_published_weights_reach_their_figures(repo_root: Path, shared_dir: Path, tmp_path: Path) -> None:
    opt = yaml.safe_load((repo_root / "options" / "test_LMLT_tiny_x4.yml").read_text())
    opt["datasets"] = {"test_1": opt["datasets"]["test_1"]}
    opt["path"]["pretrain_network_g"] = str(shared_dir / "weights" / "LMLT_tiny_x4.pth")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "benchmark").symlink_to(shared_dir / "benchmark")
    printed = run("test", opt, tmp_path, repo_root, 0)
    psnr, ssim = (float(re.search(rf"# {name}: ([\d.]+)", printed)[1]) for name in ("psnr", "ssim"))
    assert psnr == pytest.approx(32.1887, abs=0.01)
    assert ssim == pytest.approx(0.89465, abs=1e-4)
