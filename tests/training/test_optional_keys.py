"""What an option file may leave out, training does without.

Each key of each file in `options/` is taken away in turn. What is left is either refused by the check, which
names the key, or it trains an iteration (or tests an image) through BasicSR's own pipeline.
"""

import copy
import itertools
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from basicsr.utils import logger as basicsr_logger
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from PIL import Image
from small_stages import random_vgg

import basicsr.test
import basicsr.train
from lmlt_arch.data.files import DataSetError
from lmlt_arch.options import option_mistakes
from lmlt_arch.options.mistakes import Place

Run = Callable[[str, dict[str, Any]], None]

SIDE, CROP, NAMES = 96, 80, ("a", "b")
# Arguments of networks have defaults of our own, which the networks' tests are about.
NOT_TAKEN = re.compile(r"network_[gd]:.*")

SMALL: dict[str, Any] = {
    "dim": 8,
    "n_blocks": 1,
    "pdim": 4,
    "kernel_size": 5,
    "conv_blocks": 1,
    "window_size": 8,
    "num_heads": 2,
    "mid_dim": 8,
    "hidden_dim": 8,
    "hidden_list": [8],
    "num_feat": 2,
}


def small(opt: dict[str, Any], data: Path) -> dict[str, Any]:
    """The options for tiny networks, the images below `data`, and one iteration."""
    for name in ("network_g", "network_d"):
        network = opt.get(name) or {}
        network.update({key: value for key, value in SMALL.items() if key in network})
        if network.get("type") == "LMLT":
            network["dim"] = 12
    opt["num_gpu"] = 0
    opt.update({key: value for key, value in (("gt_size", 32), ("queue_size", 4)) if key in opt})
    for section in opt["datasets"].values():
        lmdb = section["io_backend"]["type"] == "lmdb"
        folders = {
            "dataroot_gt": "HR",
            "dataroot_lq": f"LR{opt['scale'] if lmdb or 'dataroot_gt' in section else ''}",
        }
        for key in folders.keys() & section.keys():
            section[key] = str(data / (folders[key] + (".lmdb" if lmdb else "")))
        sizes = {"gt_size": 16 * opt["scale"], "crop_pad_size": CROP, "lq_size": 8}
        loading = {"num_worker_per_gpu": 0, "batch_size_per_gpu": 2}
        section.update({key: value for key, value in (sizes | loading).items() if key in section})
        section.pop("persistent_workers", None)
    for key in ("pretrain_network_g", "param_key_g"):
        opt["path"].pop(key, None)
    train = opt.get("train", {})
    if train:
        train["total_iter"] = 1
        train["scheduler"].update({"periods": [1]} if "periods" in train["scheduler"] else {})
        train.update({"queries": 16} if "queries" in train else {})
        opt["logger"].update(print_freq=1, save_checkpoint_freq=1)
        if "perceptual_opt" in train:
            train["perceptual_opt"]["layer_weights"] = {"conv1_2": 1.0}
    if "val" in opt:
        opt["val"].update({"val_freq": 1} if train else {})
    return opt


def places(part: Any, above: Place = ()) -> Iterator[Place]:
    """The places of all keys, those of sections before what is in them."""
    for key, value in part.items() if isinstance(part, dict) else ():
        yield (*above, key)
        yield from places(value, (*above, key))


def take_away(opt: dict[str, Any], place: Place) -> bool:
    """Remove a key; False if it is not there."""
    part: Any = opt
    for key in place[:-1]:
        part = part.get(key, {})
    return part.pop(place[-1], opt) is not opt


def cases(folder: Path) -> Iterator[tuple[str, Place, dict[str, Any]]]:
    """File, place and options: each place once for a kind of data set, or else for a model."""
    seen = set()
    for file in sorted(folder.glob("*.yml")):
        opt = yaml.safe_load(file.read_text(encoding="utf-8"))
        opt["datasets"] = one_of_each(opt["datasets"])
        for place in places(opt):
            section = opt["datasets"][place[1]] if place[0] == "datasets" and len(place) > 1 else None
            whose = (opt["model_type"], "train" in opt)
            if section is not None:
                whose = (str(place[1]).split("_")[0], section["type"], section["io_backend"]["type"])
            case = (whose, place[2:] if section else place)
            if case not in seen and not NOT_TAKEN.match(":".join(map(str, place))):
                seen.add(case)
                yield file.stem, place, opt


def one_of_each(datasets: dict[str, Any]) -> dict[str, Any]:
    """Of many sets of one kind, which testing has, the first."""
    kinds = {(phase.split("_")[0], data["type"]): phase for phase, data in reversed(datasets.items())}
    return {phase: data for phase, data in datasets.items() if phase in kinds.values()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ground truth, its LR at each scale under names of benchmarks, LMDBs of both, and a file of VGG."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for name in NAMES:
        coarse = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        for sub, ending, side in (
            ("HR", "", SIDE),
            ("LR", "", 24),
            *((f"LR{s}", f"x{s}", SIDE // s) for s in (1, 2, 3, 4)),
        ):
            (folder / sub).mkdir(exist_ok=True)
            coarse.resize((side, side)).save(folder / sub / f"{name}{ending}.png")
    for path in [*folder.iterdir()]:
        files = sorted(image.name for image in path.iterdir())
        make_lmdb_from_imgs(str(path), f"{path}.lmdb", files, [name.partition(".")[0] for name in files])
    weights = folder / "experiments" / "pretrained_models"
    weights.mkdir(parents=True)
    random_vgg(weights / "vgg19-dcbb9e9d.pth")  # where BasicSR looks for it
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs BasicSR's pipeline for testing or training."""
    monkeypatch.chdir(data)
    monkeypatch.setattr(basicsr_logger, "initialized_logger", {"basicsr": True})
    number = itertools.count()

    def run(pipeline: str, opt: dict[str, Any]) -> None:
        root = tmp_path / str(next(number))  # BasicSR cannot begin a run twice in a second
        root.mkdir()
        (root / "run.yml").write_text(yaml.safe_dump(opt))
        monkeypatch.setattr(sys, "argv", ["run", "-opt", str(root / "run.yml")])
        getattr(getattr(basicsr, pipeline), f"{pipeline}_pipeline")(str(root))
        if pipeline == "train":
            assert (root / "experiments" / opt["name"] / "models" / "net_g_latest.pth").is_file()
        shutil.rmtree(root)

    yield run


@pytest.mark.filterwarnings("ignore")
def test_every_optional_key_can_be_left_out(repo_root: Path, data: Path, run: Run) -> None:
    ran, refused, failed = set(), set(), []
    for file, place, published in cases(repo_root / "options"):
        opt = small(copy.deepcopy(published), data)
        if not take_away(opt, place):
            continue
        if place == ("model_type",):  # nobody knows then whose model it would be
            assert any(mistake.place == place for mistake in option_mistakes(opt))
            continue
        try:
            run("train" if "train" in published else "test", opt)
            ran.add(place)
        except SystemExit as refusal:
            refused.add(place)
            # The key is named, the section that is empty without it, or what is needed without it.
            if not any(str(key) in str(refusal) for key in (*place[-2:], "is missing")):
                failed.append(f"{file}: {place}: {refusal}")
        except DataSetError as error:  # an LMDB, whose kind of storage is not said any more
            assert "io_backend" in place
            assert "write io_backend: type: lmdb" in str(error)
        except Exception as error:
            failed.append(f"{file}: {place}: {error!r}")
    assert not failed, "\n".join(failed)
    assert len(ran) > 100
    assert len(refused) > 50
