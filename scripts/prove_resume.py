"""Kill a training at random moments, resume it, and compare the end with a run that was never killed.

Small networks, real programs: `python basicsr/train.py -opt FILE`, SIGKILL to all of its processes,
`--auto_resume`. Weights, averages, optimizers, schedules and random states must be equal bit for bit (CPU,
float32, deterministic), and so must the logged losses of the iterations after the resume. Prints a line for
each kill; exit status 1 if anything differs or a run did not go on from a checkpoint.

  python scripts/prove_resume.py --kills 10 --seed 3
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
ITERATIONS, SAVE_EVERY, IMAGES = 22, 4, 12
Losses = dict[int, str]
MODELS = ("LMLT", "ESCReal_MSE", "ESCReal_GAN")
SMALL = {
    "LMLT": {"dim": 12, "n_blocks": 1},
    "ESCReal": {"dim": 8, "pdim": 4, "kernel_size": 5, "n_blocks": 1, "conv_blocks": 1, "num_heads": 2},
}


def main() -> int:
    """Run both trainings and compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="in all (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="taken in turn")
    parser.add_argument("--workers", type=int, default=2, help="of the data loader (default: 2)")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _write_images(work / "images")
        references: dict[str, tuple[dict[str, Tensor], Losses]] = {}
        failures = 0
        for number in range(1, args.kills + 1):
            model = args.models[(number - 1) % len(args.models)]
            options = _option_file(work, model, args.workers)
            if model not in references:
                whole = work / f"{model}_never_killed"
                log = _run(options, whole)
                references[model] = _ending(whole, model), _losses(log)
            interrupted = work / f"{model}_{number}"
            # After the first checkpoint: before it, there is nothing to resume from.
            moment = rng.randrange(SAVE_EVERY + 1, ITERATIONS), rng.random() * 0.2
            _run(options, interrupted, kill_at=moment)
            log = _run(options, interrupted, "--auto_resume")
            ending, losses = references[model]
            different = _differences(ending, _ending(interrupted, model))
            different += _not_resumed(log) + [
                f"losses of iteration {i}" for i, terms in _losses(log).items() if terms != losses[i]
            ]
            failures += bool(different)
            verdict = f"DIFFERS in {', '.join(different[:3])}" if different else "equal bit for bit"
            start = min(_losses(log)) - 1
            print(f"{number}. {model}: killed, resumed from iteration {start}: {verdict}", flush=True)
    print(f"{args.kills - failures} of {args.kills} killed runs ended like the one that was never killed.")
    return 1 if failures else 0


def _write_images(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
        coarse.resize((110, 100), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")


def _option_file(work: Path, model: str, workers: int) -> Path:
    """The demo's options for the model, smaller."""
    opt: dict[str, Any] = yaml.safe_load((ROOT / "options" / f"demo_{model}_x4.yml").read_text())
    opt["name"] = model
    opt["network_g"].update(SMALL[model.partition("_")[0]])
    opt["path"] = {"pretrain_network_g": None, "resume_state": None}
    opt["train"] |= {"total_iter": ITERATIONS, "warmup_iter": 3, "deterministic": True}
    opt["train"].pop("perceptual_opt", None)
    opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": SAVE_EVERY, "use_tb_logger": False}
    # An epoch is nine iterations, so that kills fall into several.
    data: dict[str, Any] = opt["datasets"]["train"]
    data |= {"batch_size_per_gpu": 2, "dataset_enlarge_ratio": 1.5, "num_worker_per_gpu": workers}
    data |= {"dataroot_gt": str(work / "images"), "io_backend": {"type": "disk"}}
    if model == "LMLT":
        data |= {"type": "DownsampleImageDataset", "gt_size": 32}
        data.pop("dataroot_lq")
    else:
        opt |= {"gt_size": 32, "queue_size": 8}
        data["crop_pad_size"] = 96
    if "network_d" in opt:
        opt["network_d"]["num_feat"] = 4
        opt["train"]["net_d_init_iters"] = 2
    path = work / f"{model}.yml"
    path.write_text(yaml.safe_dump(opt))
    return path


def _run(options: Path, folder: Path, *more: str, kill_at: tuple[int, float] | None = None) -> list[str]:
    """Train in a folder, to the end or until a time after an iteration; returns what was printed."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "basicsr" / "train.py"), "-opt", str(options), *more]
    # This checkout first; BasicSR may be in another folder of PYTHONPATH.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    log: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        for line in _lines(process):
            log.append(line)
            if kill_at is not None and max(_losses([line]), default=0) >= kill_at[0]:
                time.sleep(kill_at[1])
                os.killpg(process.pid, signal.SIGKILL)
                break
    if kill_at is None and process.returncode != 0:
        sys.exit(f"The training itself failed:\n{''.join(log[-30:])}")
    return log


def _losses(log: list[str]) -> Losses:
    """Loss terms by iteration, as they were printed."""
    found = (re.search(r"iter: +([\d,]+), .*\)\] (l_.*)", line) for line in log)
    return {int(match[1].replace(",", "")): match[2].strip() for match in found if match}


def _not_resumed(log: list[str]) -> list[str]:
    """Signs in the log that the run did not go on exactly from a checkpoint."""
    text = "".join(log)
    found = [] if "Resuming training from epoch" in text else ["it started over"]
    return found + [words for words in ("starts again", "inexactly") if words in text]


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def _ending(folder: Path, model: str) -> dict[str, Tensor]:
    """Everything that a run leaves behind, as named tensors."""
    home = folder / "experiments" / model
    last = ITERATIONS // SAVE_EVERY * SAVE_EVERY
    files = sorted((home / "models").glob("*_latest.pth"))
    files += [home / "training_states" / f"{last}{ending}" for ending in (".state", ".rank0.pth")]
    return {
        f"{path.name}: {name}": tensor
        for path in files
        for name, tensor in _tensors(torch.load(path, weights_only=True), "")
    }


def _tensors(content: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}")
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _tensors(value, f"{name}.{number}")
    elif isinstance(content, int | float):
        yield name, torch.tensor(content, dtype=torch.float64)


def _differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    missing = expected.keys() ^ found.keys()
    return sorted(missing) + [
        name for name in expected if name in found and not torch.equal(expected[name], found[name])
    ]


if __name__ == "__main__":
    sys.exit(main())
