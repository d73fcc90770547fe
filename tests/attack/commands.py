"""The commands that are attacked, each on inputs of some kilobytes, and what they make of them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# Where Python looks for what an experiment imports, when it is started as a program.
sys.path.append(str(ROOT / "scripts/experiments"))
Differences = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        name: for people.
        main: runs it in the working directory; with True as it is started again after a kill.
        needs: a module without which it cannot run here.
        cost: roughly, in seconds: costly ones are tried less often.
        differences: names what is not the same in two working directories after it.
    """

    name: str
    main: Callable[[bool], object]
    needs: str | None = None
    cost: float = 0.3
    differences: Differences = field(default=lambda a, b: different_files(a, b))

    @property
    def is_here(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def different_files(whole: Path, found: Path) -> list[str]:
    """The names of files that are not the same in two folders."""
    from attack.core import tree

    one, other = tree(whole), tree(found)
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def commands(inputs: Path) -> list[Command]:
    """All of them, on the inputs that `make_inputs` left in a folder."""

    def lmlt(*arguments: object) -> Callable[[bool], object]:
        def main(again: bool) -> object:
            from lmlt_arch.cli import main

            return main([str(argument) for argument in arguments])

        return main

    upscale = ("upscale", "--model", inputs / "x2.pth", "--device", "cpu")
    everything = [
        Command("training with GAN", partial(_train, inputs), cost=3, differences=_of_training),
        Command("prepare", lmlt("prepare", inputs / "hr", *_PREPARE), cost=0.5),
        Command("raw", lmlt("raw", inputs / "hr", "-o", "out.lmdb", "--overwrite")),
        Command("upscale of a folder", lmlt(*upscale, inputs / "lq", "-o", "out")),
        Command("upscale in tiles", lmlt(*upscale, *_TILES, inputs / "wide.png", "-o", "out.tif")),
        Command(
            "upscale of a film",
            lmlt(*upscale, inputs / "film.mp4", "-o", "out.mkv"),
            "av",
            cost=0.5,
            differences=_of_film,
        ),
        Command("convert", lmlt("convert", inputs / "x2.pth", "-o", "out.safetensors")),
        Command("export", lmlt("export", "--model", inputs / "x2.pth", "-o", "out.pt2"), cost=12),
        Command("benchmark", lmlt(*_BENCHMARK, "--model", inputs / "x2.pth", "--data", inputs / "set")),
        Command("degrade", lmlt("degrade", inputs / "hr", "-o", "out", "-opt", inputs / "degrade.yml")),
        Command("an experiment", partial(_experiment, inputs), "matplotlib", cost=1),
    ]
    return [command for command in everything if command.is_here]


_PREPARE = ("-o", ".", "--scale", "2", "--crop-size", "32", "--lmdb", "--raw", "--workers", "0")
_TILES = ("--tile", "128", "--overlap", "64")
_BENCHMARK = ("benchmark", "-o", "table", "--device", "cpu")


def _train(inputs: Path, again: bool) -> object:
    from lmlt_arch.hook import launch

    sys.argv = ["train.py", "-opt", str(inputs / "gan.yml"), *(["--auto_resume"] if again else [])]
    return launch.main("train")


def _experiment(inputs: Path, again: bool) -> object:
    import robustness

    few = ["--isotropic", "1", "--anisotropic", "--noise", "5", "--jpeg", "--crop", "64", "--images", "1"]
    given = ["--model", f"a={inputs / 'x2.pth'}", "--data", str(inputs / "set"), "--device", "cpu"]
    return robustness.main([*given, *few, "-o", "found"])


def _of_film(whole: Path, found: Path) -> list[str]:
    """Packets and their times; the file itself has an identity of its own each time."""
    import av

    packets = []
    for folder in (whole, found):
        with av.open(str(folder / "out.mkv")) as film:
            packets.append([(packet.pts, bytes(packet)) for packet in film.demux(video=0) if packet.size])
    return [] if packets[0] == packets[1] else [f"{len(packets[0])} packets, {len(packets[1])} found"]


def _of_training(whole: Path, found: Path) -> list[str]:
    """The tensors of the last checkpoints that differ."""
    files = ("models/net_g_latest.pth", "models/net_d_latest.pth", "training_states/4.state")
    homes = [next((folder / "experiments").glob("gan"), folder) for folder in (whole, found)]
    wrong = []
    for file in files:
        states = [
            dict(_tensors(torch.load(home / file, weights_only=True))) if (home / file).exists() else {}
            for home in homes
        ]
        if not states[0] or states[0].keys() != states[1].keys():
            wrong.append(file)
            continue
        wrong += [f"{file}: {key}" for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    return wrong


def _tensors(content: Any, name: str = "") -> Any:
    if isinstance(content, torch.Tensor):
        yield name, content
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        yield from _tensors(value, f"{name}.{key}")


@cache
def preload() -> None:
    """Import in this process what the commands would import in each of theirs."""
    from lmlt_arch.hook import finder

    finder.install()
    torch.set_num_threads(1)
    for module in (
        *("basicsr.train", "lmlt_arch.cli", "lmlt_arch.models", "realsr.models", "lmdb", "cv2"),
        *("lmlt_arch.data.prepare.run", "lmlt_arch.data.lmdb.raw_conversion", "lmlt_arch.check.batch"),
        *("lmlt_arch.evaluation.benchmark.run", "lmlt_arch.inference.pipeline", "lmlt_arch.checkpoints.load"),
        *("realsr.degrade_folder", "lmlt_arch.checkpoints.convert", "lmlt_arch.options"),
        "robustness",
    ):
        importlib.import_module(module)
    if importlib.util.find_spec("av"):
        importlib.import_module("lmlt_arch.inference.video.upscale")


def make_inputs(folder: Path) -> Path:
    """Images, a dataset, a film, a checkpoint and option files, all small."""
    from helpers.small.evaluations import checkpoint
    from helpers.small.options import photo_options, save_image

    for number in range(3):
        save_image(folder / f"hr/{number}.png", 96, 88, number)
        save_image(folder / f"lq/{number}.png", 28, 24, number)
        save_image(folder / f"set/HR/{number}.png", 72, 68, number)
    save_image(folder / "wide.png", 200, 80)
    checkpoint(folder / "x2.pth")
    if importlib.util.find_spec("av"):
        from helpers.small.videos import moving_frames, write_video

        write_video(folder / "film.mp4", moving_frames(10, 32, 32))
    gan = _gan_options(folder, photo_options(folder))
    (folder / "gan.yml").write_text(yaml.safe_dump(gan))
    (folder / "degrade.yml").write_text(yaml.safe_dump(gan))
    return folder


def _gan_options(folder: Path, opt: dict[str, Any]) -> dict[str, Any]:
    """Stage 2, without a perceptual loss, whose weights nobody has here."""
    opt |= {"name": "gan", "model_type": "ESCRealGANModel", "scale": 4, "queue_size": 4}
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
    train = opt["train"]
    train |= {"optim_d": dict(train["optim_g"]), "net_d_iters": 1, "net_d_init_iters": 0}
    train |= {"total_iter": 4, "deterministic": True}
    train["gan_opt"] = {
        "type": "GANLoss",
        "gan_type": "vanilla",
        "real_label_val": 1.0,
        "fake_label_val": 0.0,
    }
    train["gan_opt"]["loss_weight"] = 0.1
    opt["logger"] |= {"use_tb_logger": False, "print_freq": 1, "save_checkpoint_freq": 1}
    opt.pop("val", None)
    return opt


def fresh(folder: Path) -> Path:
    """An empty folder in place of whatever is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def opened(path: Path) -> tuple[int, int]:
    """Width and height of an image that is decoded whole."""
    with Image.open(path) as image:
        image.load()
        return image.size


def noise(draw: int, width: int, height: int) -> Image.Image:
    """Pixels at random."""
    pixels = np.random.default_rng(draw).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
