"""Two processes of stage 2 against one with the doubled batch: both networks end alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import forked
from helpers.small.stages import stage_options

pytestmark = pytest.mark.slow


def run(processes: int, folder: Path, repo_root: Path) -> list[dict[str, Any]]:
    """What each process saved, trained on its share of `batches.pth` in `folder`."""
    command = [repo_root / "tests/models/two_ranks.py", folder / "opt.json", folder / "batches.pth", folder]
    forked.run(*command, cwd=repo_root, processes=processes)
    files = [folder / f"rank{rank}_of_{processes}.pth" for rank in range(processes)]
    return [torch.load(file, weights_only=True) for file in files]


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path, repo_root: Path) -> None:
    # What the discriminator learns decides where the network goes.
    gan = {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 5.0}
    penalty = {"type": "r1", "weight": 1.0, "every": 2}
    train = {"gan_opt": gan, "gradient_penalty": penalty, "net_d_init_iters": 1}
    opt = stage_options("ESCRealGANModel", tmp_path, train=train)
    (tmp_path / "opt.json").write_text(json.dumps(opt))
    draw = torch.Generator().manual_seed(3)
    batches = [
        {
            "lq": torch.rand(4, 3, 8, 8, generator=draw, dtype=torch.float64),
            "gt": torch.rand(4, 3, 32, 32, generator=draw, dtype=torch.float64),
        }
        for _ in range(4)
    ]
    torch.save(batches, tmp_path / "batches.pth")
    (one,) = run(1, tmp_path, repo_root)
    first, second = run(2, tmp_path, repo_root)
    for key in ("params", "params_ema"):
        torch.testing.assert_close(first[key], one[key], rtol=1e-7, atol=1e-9)
        assert all(torch.equal(value, second[key][name]) for name, value in first[key].items())
    assert one["log"].keys() >= {"l_g_gan", "l_d_real", "l_d_penalty", "l_d_fake"}
    assert first["log"] == second["log"] == pytest.approx(one["log"], rel=1e-7)
