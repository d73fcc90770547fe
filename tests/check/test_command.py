"""`lmlt check`: checkpoints, memory and time, the first batch, and usage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.check_command import Write, check, findings
from helpers.small.networks import SMALL
from PIL import Image

from lmlt_arch import LMLT
from lmlt_arch.check.cost import estimate_memory
from lmlt_arch.cli import main


def test_the_pool_of_pairs_is_memory_too(photos: dict[str, Any], paired: dict[str, Any]) -> None:
    """A million pairs of 64 and 16 pixels are 52 GB, which are allocated at the first iteration."""
    photos |= {"queue_size": 2**20, "gt_size": 64, "scale": 4}
    assert estimate_memory(photos, 2, 16).pool == 2**20 * 3 * (64**2 + 16**2) * 4
    assert estimate_memory(photos | {"queue_size": 0}, 2, 16).pool == 0
    assert estimate_memory(paired, 2, 16).pool == 0


def test_checkpoints_that_do_not_fit(
    paired: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pth"
    paired["path"]["pretrain_network_g"] = str(weights)
    arguments = {key: value for key, value in paired["network_g"].items() if key != "type"}
    torch.save({"params": LMLT(**arguments).state_dict()}, weights)
    assert check(write(paired)) == 0
    capsys.readouterr()

    torch.save({"params": SMALL["ESC"].build().state_dict()}, weights)
    (found,) = findings(write(paired), capsys)
    assert "weights.pth is a checkpoint of ESC, but network_g is LMLT" in found

    weights.write_text("no checkpoint")
    (found,) = findings(write(paired), capsys)
    assert "path: pretrain_network_g" in found
    assert "weights.pth" in found

    torch.save({"params": LMLT(**{**arguments, "dim": 24}).state_dict()}, weights)
    (found,) = findings(write(paired), capsys)
    assert "path: pretrain_network_g" in found
    assert "dim 24" in found


def test_a_network_larger_than_memory_is_not_timed(
    paired: dict[str, Any], write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lmlt_arch.check.run.available_memory", lambda device: 1000)
    assert main(["check", "-opt", str(write(paired))]) == 0
    assert "not measured, the network alone takes more memory than is free here" in capsys.readouterr().out


def test_nothing_wrong_with_pairs(
    paired: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(paired)
    assert main(["check", "-opt", str(path), "-o", str(tmp_path / "batch.png")]) == 0
    said = capsys.readouterr().out
    assert "first batch: lq (2, 3, 16, 16), gt (2, 3, 32, 32)" in said
    assert "memory of a training step: about" in said
    assert "time of an iteration: about" in said
    picture = np.asarray(Image.open(tmp_path / "batch.png"))
    assert picture.shape == (2 * 32 + 4, 2 * 32 + 4, 3)
    # The left half holds each LQ pixel four times.
    left = picture[:32, :32]
    assert np.array_equal(left, left[::2, ::2].repeat(2, 0).repeat(2, 1))


def test_nothing_wrong_with_photographs(
    photos: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(write(photos), "-o", str(tmp_path / "batch.png")) == 0
    assert "first batch: lq (2, 3, 16, 16), gt (2, 3, 64, 64)" in capsys.readouterr().out
    assert (tmp_path / "batch.png").is_file()


def test_usage(paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(write(paired), "-o", "batch.jpg") == 2
    assert "-o is the name of a PNG file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_info:
        main(["check"])
    assert exit_info.value.code == 2
