"""The commands where nothing but the core is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch._dynamo
from PIL import Image

from lmlt_arch import LMLT

pytestmark = pytest.mark.slow

EXTRAS = (
    *(
        "av",
        "basicsr",
        "cv2",
        "lmdb",
        "matplotlib",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "openvino",
        "pydantic",
    ),
    *("pyiqa", "pyvips", "scipy", "skimage", "spandrel", "torchvision", "triton", "yaml"),
)
# A module that is None cannot be imported. Each command runs in a process of its own, a fork of one that has
# imported what takes long and nothing of ours.
PROGRAM = f"""
import os, sys
sys.modules.update(dict.fromkeys({EXTRAS!r}))
import torch._dynamo
assert not any(name.startswith("lmlt_arch") for name in sys.modules)
for line in sys.stdin:
    number, *typed = line.rstrip("\\n").split("\\t")
    if not (child := os.fork()):
        said = os.open(f"{{number}}.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        from lmlt_arch.cli import main
        sys.exit(main(typed))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
COMMANDS: list[tuple[list[str], int, str]] = [
    (["upscale", "a.png", "-o", "out", "--model", "net.pth"], 0, "1 upscaled"),
    (["upscale", "a.png", "-o", "t.tif", "--depth", "16", "--model", "net.pth"], 2, "basicsr-lmlt[images]"),
    (["upscale", "a.png", "clip.mp4", "-o", "out2", "--model", "net.pth"], 1, "basicsr-lmlt[video]"),
    (["upscale", "deep.tif", "a.png", "-o", "out3", "--model", "net.pth"], 1, "basicsr-lmlt[images]"),
    (["compare", "a.png", "--model", "net.pth", "-o", "c.png", "--html", "c.html"], 0, "written: c.png"),
    (["benchmark", "--model", "net.pth", "--data", "Set"], 0, "PSNR"),
    (["profile", "--model", "LMLT_tiny", "--size", "64x64", "--repeats", "1", "--no-memory"], 0, "251 K"),
    (["profile", "--model", "net.yml", "--size", "64x64"], 2, "basicsr-lmlt[train]"),
    (["profile", "--model", "basicsr:SwinIR-light", "--size", "64x64"], 2, "basicsr-lmlt[train]"),
    (["profile", "--model", "other.pth", "--size", "64x64"], 2, "basicsr-lmlt[spandrel]"),
    (["profile", "--model", "net.pth", "--plot", "p.png"], 2, "basicsr-lmlt[plots]"),
    (["convert", "net.pth", "-o", "net.safetensors"], 0, "computes the same"),
    (["export", "--model", "net.pth", "-o", "net.onnx"], 2, "basicsr-lmlt[export]"),
    (["info", "net.pth"], 0, "LMLT"),
    (["prepare", "Set/HR", "-o", "out4", "--scale", "2", "--lmdb"], 2, "pip install lmdb"),
    (["check", "-opt", "net.yml"], 2, "basicsr-lmlt[train]"),
    (["degrade", "Set/HR", "-o", "out5", "-opt", "net.yml"], 2, "basicsr-lmlt[train]"),
    (["--help"], 0, "upscale"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> list[tuple[int, str]]:
    """Exit status and output of each command."""
    folder = tmp_path_factory.mktemp("core")
    (folder / "Set" / "HR").mkdir(parents=True)
    for path in (folder / "a.png", folder / "Set" / "HR" / "a.png"):
        Image.linear_gradient("L").convert("RGB").resize((40, 32)).save(path)
    torch.save({"params": LMLT(8, 1, upscaling_factor=2).state_dict()}, folder / "net.pth")
    torch.save({"weight": torch.zeros(3)}, folder / "other.pth")
    (folder / "clip.mp4").write_bytes(b"clip")
    Image.fromarray(np.zeros((32, 40), np.float32)).save(folder / "deep.tif")
    (folder / "net.yml").write_text("scale: 2")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="".join("\t".join([str(n), *typed]) + "\n" for n, (typed, _, _) in enumerate(COMMANDS)),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(int(status), (folder / f"{n}.txt").read_text()) for n, status in enumerate(done.stdout.split())]


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[" ".join(typed) for typed, _, _ in COMMANDS])
def test_command(number: int, results: list[tuple[int, str]]) -> None:
    _, status, says = COMMANDS[number]
    returned, said = results[number]
    assert returned == status, said
    assert says in said
    assert "Traceback" not in said
