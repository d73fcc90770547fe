"""Two processes against one with the doubled batch, by gloo and DistributedDataParallel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import forked

pytestmark = pytest.mark.slow


@pytest.fixture
def ranks(repo_root: Path, tmp_path: Path) -> Any:
    """Runs two_ranks.py on some processes; returns what each of them saved."""

    def run(
        processes: int, opt: dict[str, Any], batches: list[dict[str, torch.Tensor]]
    ) -> list[dict[str, Any]]:
        (tmp_path / "opt.json").write_text(json.dumps(opt))
        torch.save(batches, tmp_path / "batches.pth")
        command = [Path(__file__).with_name("two_ranks.py")]
        command += [tmp_path / "opt.json", tmp_path / "batches.pth", tmp_path]
        forked.run(*command, cwd=repo_root, processes=processes)
        return [
            torch.load(tmp_path / f"rank{rank}_of_{processes}.pth", weights_only=True)
            for rank in range(processes)
        ]

    return run


def batches(count: int, size: int) -> list[dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(3)
    return [
        {
            "lq": torch.rand(size, 3, 16, 16, generator=rng, dtype=torch.float64),
            "gt": torch.rand(size, 3, 32, 32, generator=rng, dtype=torch.float64),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(("network", "model_type"), [("LMLT", "LMLTModel"), ("ESC", "ESCModel")])
def test_two_ranks_equal_one_with_the_doubled_batch(
    make_options: Any, ranks: Any, network: str, model_type: str
) -> None:
    train = {"fft_opt": {"type": "FFTLoss", "loss_weight": 0.05}, "grad_clip": 0.1, "total_iter": 3}
    opt = {**make_options(network, train=train), "model_type": model_type}
    data = batches(3, 4)
    (one,) = ranks(1, opt, data)
    opt["train"]["accumulation_steps"] = 2
    two = ranks(2, opt, data)
    for rank in two:
        for key in ("params", "params_ema"):
            torch.testing.assert_close(rank[key], one[key], rtol=1e-9, atol=1e-11)
        assert rank["log"] == pytest.approx(one["log"], rel=1e-9), "every rank logs the average"
    for name, tensor in two[0]["params"].items():
        assert torch.equal(tensor, two[1]["params"][name]), name
    # Networks this small fit one bucket: one exchange for each step, though each step has two micro-batches.
    assert [rank["exchanges"] for rank in two] == [3, 3]


@pytest.mark.parametrize("processes", [2, 3])
def test_a_total_batch_in_unequal_shares_equals_one_process(
    make_options: Any, ranks: Any, processes: int
) -> None:
    """Seven images on 2 processes: 4 and 3, each share in parts of at most 2 images."""
    opt = {**make_options("LMLT", train={"total_iter": 3, "total_batch": 7}), "model_type": "LMLTModel"}
    opt["datasets"] = {"train": {"batch_size_per_gpu": 2}}
    data = batches(3, 7)
    (one,) = ranks(1, opt, data)
    for rank in ranks(processes, opt, data):
        for key in ("params", "params_ema"):
            torch.testing.assert_close(rank[key], one[key], rtol=1e-9, atol=1e-11)
        assert rank["log"] == pytest.approx(one["log"], rel=1e-9)
        assert rank["exchanges"] == 3


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(
    make_options: Any, ranks: Any, tmp_path: Path
) -> None:
    opt = {**make_options("LMLT"), "model_type": "LMLTModel"}
    data = batches(2, 4)
    data[1]["gt"][1, 0, 0, 0] = float("nan")
    first, second = ranks(2, opt, data)
    assert first["failure"] == "iteration 2: a loss of another process is not finite"
    assert "iteration 2: l_pix is nan" in second["failure"]
    kept = torch.load(tmp_path / "nonfinite_2_rank1" / "batch.pth", weights_only=True)
    torch.testing.assert_close(kept["gt"], data[1]["gt"][1::2], equal_nan=True)
