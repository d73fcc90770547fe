"""The commands where nothing but the core is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from lmlt_arch import LMLT

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
# A module that is None cannot be imported.
SCRIPT = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRAS!r}))
from lmlt_arch.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("core")
    (folder / "Set" / "HR").mkdir(parents=True)
    for path in (folder / "a.png", folder / "Set" / "HR" / "a.png"):
        Image.linear_gradient("L").convert("RGB").resize((40, 32)).save(path)
    torch.save({"params": LMLT(8, 1, upscaling_factor=2).state_dict()}, folder / "net.pth")
    return folder


@pytest.mark.parametrize(
    ("typed", "status", "says"),
    [
        (["upscale", "a.png", "-o", "out", "--model", "net.pth"], 0, "1 enlarged"),
        (
            ["upscale", "a.png", "-o", "t.tif", "--depth", "16", "--model", "net.pth"],
            1,
            "basicsr-lmlt[images]",
        ),
        (["compare", "a.png", "--model", "net.pth", "-o", "c.png", "--html", "c.html"], 0, "written: c.png"),
        (["benchmark", "--model", "net.pth", "--data", "Set"], 0, "PSNR"),
        (["profile", "--model", "LMLT_tiny", "--size", "64x64", "--repeats", "1", "--no-memory"], 0, "251 K"),
        (["profile", "--model", "net.yml", "--size", "64x64"], 2, "basicsr-lmlt[train]"),
        (["profile", "--model", "basicsr:SwinIR-light", "--size", "64x64"], 2, "basicsr-lmlt[train]"),
        (["profile", "--model", "net.pth", "--plot", "p.png"], 2, "basicsr-lmlt[plots]"),
        (["convert", "net.pth", "-o", "net.safetensors"], 0, "computes the same"),
        (["export", "--model", "net.pth", "-o", "net.onnx"], 1, "basicsr-lmlt[export]"),
        (["info", "net.pth"], 0, "LMLT"),
        (["--help"], 0, "upscale"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command(here: Path, repo_root: Path, typed: list[str], status: int, says: str) -> None:
    (here / "net.yml").write_text("scale: 2")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *typed],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
