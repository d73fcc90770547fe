"""What README and documentation say to type runs on small stand-ins, or is marked and can be typed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import documented_commands
from helpers.documented_commands import Block, WrongCommandError
from helpers.onnx_files import upscaling
from helpers.small.networks import SMALL
from helpers.small.videos import moving_frames, write_video
from PIL import Image
from skimage import data

from lmlt_arch import LMLT
from lmlt_arch.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Longer is too long for an example that is not marked.
SECONDS = 60

in_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that examples speak of, small."""
    folder = tmp_path_factory.mktemp("stand_ins")
    torch.manual_seed(0)
    lmlt = LMLT(8, 1, 1.5, 4).state_dict()
    for name in ("LMLT_tiny_x4.pth", "net_g_latest.pth"):
        torch.save({"params_ema": lmlt, "params": lmlt}, folder / name)
    for name, small in {"ESC_x2.pth": "ESC", "ESC_Real_DySample.pth": "ESCReal-dysample"}.items():
        torch.save({"params_ema": SMALL[small].filled(torch.float32).state_dict()}, folder / name)
    assert main(["convert", str(folder / "net_g_latest.pth"), "-o", str(folder / "net.safetensors")]) == 0
    upscaling(folder / "LMLT_tiny_x4.onnx", 4)
    photo = data.astronaut()
    for name, height, width in (
        ("face.png", 12, 10),
        ("photos/2024/portrait.png", 16, 12),
        ("coffee.png", 96, 128),
        ("datasets/Set5/HR/head.png", 48, 40),
        ("datasets/Urban100/HR/head.png", 40, 48),
        ("datasets/my_photos/val/head.png", 192, 160),
        ("datasets/DF2K/DF2K_train_HR/0001.png", 480, 480),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(photo[:height, 180 : 180 + width][:height])).save(path)
    write_video(folder / "film.mp4", moving_frames(3))
    return folder


@pytest.fixture
def desk(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a user's checkout, as the working directory."""
    folder = tmp_path / "desk"
    shutil.copytree(stand_ins, folder)
    for name in ("options", "scripts", "basicsr"):
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)
    return folder


@in_every_page
def test_can_be_typed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in documented_commands.blocks(text):
        for number, command in block.commands:
            try:
                documented_commands.check(command, ROOT)
            except WrongCommandError as error:
                pytest.fail(f"{page.relative_to(ROOT)}:{number}: {error}")
        if block.language == "python":
            compile("\n".join(block.lines), f"{page.name}:{block.line}", "exec")
    for command in documented_commands.inline_commands(text):
        documented_commands.check_flags(command, ROOT)


@in_every_page
def test_runs(page: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unmarked = [
        block for block in documented_commands.blocks(page.read_text(encoding="utf-8")) if not block.needs
    ]
    for block in unmarked:
        if block.language == "python":
            _execute(block, page)
        for number, command in block.commands:
            status = _run(command)
            said = capsys.readouterr()
            assert status == 0, f"{page.relative_to(ROOT)}:{number}: {command}\n{said.out}{said.err}"


def _execute(block: Block, page: Path) -> None:
    names = {"image": Image.open("face.png"), "lq": torch.rand(1, 3, 12, 10)}
    exec(compile("\n".join(block.lines), f"{page}:{block.line}", "exec"), names)


def _run(command: str) -> int:
    """Its exit status; what pip would install is checked, not installed."""
    program, *words = shlex.split(command, comments=True)
    if program == "pip":
        return 0
    if program == "lmlt":
        return main(words)
    assert program == "python", f"mark this block with what it needs, or run it here: {command}"
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    print(done.stdout, done.stderr)
    return done.returncode


PAGE = """\
# A page

<!-- needs: data -->

    torchrun --nproc_per_node=2 basicsr/train.py -opt options/train_LMLT_x4.yml \\
        --auto_resume

```bash
lmlt info a.pth  # what it is
```

- not code:

    but a paragraph of a list

```text
lmlt is no command here
```

```
10 images done
```

Say `lmlt upscale --model m.onnx`.
"""


def test_finds_commands() -> None:
    first, second, *others = documented_commands.blocks(PAGE)
    assert first.needs == "data"
    assert first.commands == [
        (6, "torchrun --nproc_per_node=2 basicsr/train.py -opt options/train_LMLT_x4.yml --auto_resume")
    ]
    assert (second.needs, second.commands) == ("", [(9, "lmlt info a.pth  # what it is")])
    assert [block.commands for block in others] == [[]] * len(others)
    assert documented_commands.inline_commands(PAGE) == ["lmlt upscale --model m.onnx"]


@pytest.mark.parametrize(
    "command",
    [
        "lmlt upscal a.png -o b.png --model m.pth",
        "lmlt upscale a.png -o b.png --model m.pth --tyle 3",
        "lmlt upscale a.png --model m.pth",
        "lmlt check -opt options/train_LMLT_x5.yml",
        "torchrun --nprocs=1 basicsr/train.py -opt options/train_LMLT_x4.yml",
        "torchrun --nproc_per_node=1 basicsr/trane.py -opt options/train_LMLT_x4.yml",
        "torchrun --nproc_per_node=1 basicsr/train.py -opt options/train_LMLT_x4.yml --auto-resume",
        "torchrun --nproc_per_node=1 --no-python lmlt upscale a.png",
        "python scripts/benchmarks/tiles.py --modle m.pth",
        "python scripts/benchmarks/training.py data --network LMLT_tiny",
        "python scripts/no_such_program.py",
        "python -m no_such_module",
        "bash scripts/demo.py",
        'pip install ".[movies]"',
        "make all",
    ],
)
def test_refuses(command: str) -> None:
    with pytest.raises(WrongCommandError):
        documented_commands.check(command, ROOT)


@pytest.mark.parametrize(
    "text", ["<!-- needs: luck -->\n\n    lmlt doctor", "<!-- needs: data -->\n\nNo code."]
)
def test_refuses_marks(text: str) -> None:
    with pytest.raises(WrongCommandError):
        documented_commands.blocks(text)


@pytest.mark.parametrize("command", ["lmlt increase FILE", "lmlt upscale --bigger", "bash scripts/no.sh"])
def test_refuses_in_running_text(command: str) -> None:
    with pytest.raises(WrongCommandError):
        documented_commands.check_flags(command, ROOT)
