"""Both stages, fine-tuning and testing by the commands a user types, from the shipped option files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from helpers import forked
from helpers.small.stages import DISCRIMINATOR, NETWORK, random_vgg

pytestmark = pytest.mark.slow

# Small and few; the network is given by each test.
TRAIN_SET = {
    "crop_pad_size": 96,
    "num_worker_per_gpu": 0,
    "persistent_workers": False,
    "batch_size_per_gpu": 2,
    "dataset_enlarge_ratio": 4,
}


class Workshop:
    """A folder with photographs, in which commands are typed."""

    def __init__(self, folder: Path, repo_root: Path) -> None:
        self.folder, self.root = folder, repo_root
        self.photos = folder / "photos"
        for name in ("photos", "pairs/gt", "pairs/lq"):
            (folder / name).mkdir(parents=True)
        draw = np.random.default_rng(0)
        # Large enough for NIQE, which needs more than one block of 96 pixels.
        for number in range(4):
            coarse = draw.integers(0, 256, (9, 10, 3), dtype=np.uint8)
            photo = cv2.resize(coarse, (224, 208), interpolation=cv2.INTER_CUBIC)
            small = cv2.resize(photo, (56, 52), interpolation=cv2.INTER_AREA)
            for place, image in (("photos", photo), ("pairs/gt", photo), ("pairs/lq", small)):
                cv2.imwrite(str(folder / place / f"p{number}.png"), image)
        (folder / "meta_info.txt").write_text("".join(f"p{number}.png (208,224,3)\n" for number in range(4)))
        self.vgg = random_vgg(folder / "vgg.pth")

    def shipped(self, name: str, **more: Any) -> dict[str, Any]:
        """An option file of the repository, for this folder and a small network."""
        opt: dict[str, Any] = yaml.safe_load((self.root / "options" / f"{name}.yml").read_text())
        opt["network_g"] = NETWORK
        for phase, data in opt["datasets"].items():
            if "dataroot_gt" in data and data["type"] == "PairedImageDataset":
                data |= {f"dataroot_{kind}": str(self.folder / "pairs" / kind) for kind in ("gt", "lq")}
            elif "dataroot_gt" in data:
                data["dataroot_gt"] = str(self.photos)
            else:
                data["dataroot_lq"] = str(self.folder / "pairs" / "lq")
            if phase == "train":
                data |= {
                    key: value for key, value in TRAIN_SET.items() if key != "crop_pad_size" or key in data
                }
        if "train" in opt:
            opt["train"] |= {"total_iter": 4, "total_batch": 4}
            opt["logger"]["save_checkpoint_freq"] = opt["val"]["val_freq"] = 2
            opt["logger"]["print_freq"] = 1
            opt["queue_size"] = 4
            if "gt_size" in opt:
                opt["gt_size"] = 32
            if "network_d" in opt:
                opt["network_d"] = DISCRIMINATOR
                opt["path"]["vgg"] = str(self.vgg)
        for key, value in more.items():
            opt[key] = {**opt[key], **value} if isinstance(value, dict) else value
        return opt

    def run(self, program: str, opt: dict[str, Any], *more: str, processes: int = 1) -> str:
        """Start the program as the command does, or torchrun; returns what it printed."""
        file = self.folder / f"{opt['name']}.yml"
        file.write_text(yaml.safe_dump(opt, sort_keys=False))
        launcher = ["--launcher", "pytorch"] if processes > 1 else []
        command = [self.root / f"basicsr/{program}.py", "-opt", file, *more, *launcher]
        return forked.run(*command, cwd=self.folder, processes=processes)

    def models(self, name: str) -> Path:
        return self.folder / "experiments" / name / "models"


@pytest.fixture
def workshop(tmp_path: Path, repo_root: Path) -> Workshop:
    return Workshop(tmp_path, repo_root)


def trained(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    content: dict[str, dict[str, torch.Tensor]] = torch.load(path, weights_only=True)
    assert all(bool(value.isfinite().all()) for state in content.values() for value in state.values())
    return content


def test_both_stages_on_two_processes(workshop: Workshop) -> None:
    """Stage 1, then stage 2 from its average, resumed; then the result on photographs."""
    said = workshop.run("train", workshop.shipped("train_ESCReal_MSE_x4"), processes=2)
    assert re.search(r"iter: +4, .*l_pix: ", said)
    assert len(re.findall(r"# psnr: [\d.]+", said)) >= 2
    first = trained(workshop.models("train_ESCReal_MSE_x4") / "net_g_latest.pth")
    assert first.keys() == {"params", "params_ema"}

    opt = workshop.shipped("train_ESCReal_GAN_x4", train={"net_d_init_iters": 1})
    said = workshop.run("train", opt, processes=2)
    assert "net_g_latest.pth" in said
    assert not re.search(r"iter: +1, .*l_g_gan", said), "the discriminator alone"
    assert re.search(r"iter: +4, .*l_g_pix: .*l_g_percep: .*l_g_gan: .*l_d_real: .*l_d_fake: ", said)
    models = workshop.models("train_ESCReal_GAN_x4")
    assert (models / "net_d_latest.pth").is_file()
    second = trained(models / "net_g_latest.pth")
    moved = [(second["params"][key] - value).abs().max() for key, value in first["params_ema"].items()]
    assert 0 < max(moved) < 0.01, "started from stage 1"

    opt["train"]["total_iter"] = 6
    said = workshop.run("train", opt, "--auto_resume", processes=2)
    assert "iter: 4." in said
    assert re.search(r"iter: +6, .*l_d_fake: ", said)
    assert not re.search(r"iter: +4, ", said)

    opt = workshop.shipped("test_ESCReal_x4")
    said = workshop.run("test", opt)
    assert re.search(r"# niqe: [\d.]+", said)
    results = [*(workshop.folder / "results").rglob("*.png")]
    assert len(results) == 4
    assert {cv2.imread(str(path)).shape for path in results} == {(208, 224, 3)}


def test_official_files_on_one_process(workshop: Workshop) -> None:
    """BasicSR's own dataset, and the official names of the models."""
    for stage, name in (("MSE", "RealHATMSEModel"), ("GAN", "RealHATGANModel")):
        opt = workshop.shipped(f"train_ESCReal_{stage}_x4", model_type=name)
        data = opt["datasets"]["train"]
        del data["crop_pad_size"], opt["datasets"]["val"], opt["val"]
        data |= {"type": "RealESRGANDataset", "meta_info": str(workshop.folder / "meta_info.txt")}
        opt["train"]["total_iter"] = 3
        said = workshop.run("train", opt)
        assert f"Model [{name}] is created" in said
        assert re.search(r"iter: +3, .*l_g?_?pix: ", said)
        trained(workshop.models(opt["name"]) / "net_g_latest.pth")


def test_fine_tuning(workshop: Workshop) -> None:
    """From a checkpoint of another scale, on photographs; then from that, on pairs, some layers frozen."""
    from lmlt_arch.archs import ESCReal

    arguments: dict[str, Any] = {key: value for key, value in NETWORK.items() if key != "type"}
    start = ESCReal(**{**arguments, "upscaling_factor": 2}).state_dict()
    torch.save({"params": start, "params_ema": start}, workshop.folder / "official.pth")
    path = {"pretrain_network_g": str(workshop.folder / "official.pth"), "strict_load_g": False}
    opt = workshop.shipped("finetune_ESCReal_x4", path=path)
    said = workshop.run("train", opt)
    assert said.count("starting fresh: to_img.1.weight") == 1
    result = workshop.models("finetune_ESCReal_x4") / "net_g_latest.pth"
    trained(result)

    opt = workshop.shipped("finetune_ESCReal_paired_x4", path={"pretrain_network_g": str(result)})
    opt["train"] |= {"freeze": ["proj", "blocks.0"], "net_d_init_iters": 1}
    opt["datasets"]["train"]["gt_size"] = 32
    said = workshop.run("train", opt)
    assert re.search(r"iter: +4, .*l_g_percep: ", said)
    assert re.search(r"# psnr: [\d.]+", said)
    before = trained(result)["params_ema"]
    after = trained(workshop.models("finetune_ESCReal_paired_x4") / "net_g_latest.pth")["params"]
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith(("proj.", "blocks.0.")), name


def test_without_vgg_nothing_is_started(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(workshop.folder / "home"))
    opt = workshop.shipped("train_ESCReal_GAN_x4", path={"pretrain_network_g": None, "vgg": None})
    with pytest.raises(AssertionError) as failed:
        workshop.run("train", opt)
    said = str(failed.value)
    assert "vgg19-dcbb9e9d.pth, which is not at" in said
    assert not re.search(r"iter: +1, ", said)
    assert "Downloading" not in said


def test_degrade_reads_the_shipped_files(workshop: Workshop) -> None:
    """As the README shows it."""
    out = workshop.folder / "seen"
    option_file = str(workshop.root / "options" / "train_ESCReal_MSE_x4.yml")
    command = [sys.executable, "-m", "lmlt_arch", "degrade", str(workshop.photos), "-o", str(out)]
    done = subprocess.run(
        [*command, "-opt", option_file, "--seed", "0"],
        env={**os.environ, "PYTHONPATH": str(workshop.root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len([*(out / "lq").iterdir()]) == 4
