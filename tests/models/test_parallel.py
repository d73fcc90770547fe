"""Two processes against one with the doubled batch, by gloo and DistributedDataParallel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import forked

pytestmark = pytest.mark.slow


@pytest.fixture
def ranks(repo_root: Path, tmp_path: Path) -> Any:
    """Runs two_ranks.py on some processes; returns what each saved, and in `printed` what all said."""

    def run(
        processes: int, opt: dict[str, Any], batches: list[dict[str, torch.Tensor]]
    ) -> list[dict[str, Any]]:
        (tmp_path / "opt.json").write_text(json.dumps(opt))
        torch.save(batches, tmp_path / "batches.pth")
        command = [Path(__file__).with_name("two_ranks.py")]
        command += [tmp_path / "opt.json", tmp_path / "batches.pth", tmp_path]
        printed = forked.run(*command, cwd=repo_root, processes=processes)
        return [
            {**torch.load(tmp_path / f"rank{rank}_of_{processes}.pth", weights_only=True), "printed": printed}
            for rank in range(processes)
        ]

    return run


def batches(count: int, size: int, dtype: torch.dtype = torch.float64) -> list[dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(3)
    return [
        {
            "lq": torch.rand(size, 3, 16, 16, generator=rng, dtype=dtype),
            "gt": torch.rand(size, 3, 32, 32, generator=rng, dtype=dtype),
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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("amp", [None, "bf16"])
@pytest.mark.parametrize("network", ["LMLT", "ESC", "ESCReal"])
def test_gradients_have_the_strides_of_the_exchange(
    make_options: Any, ranks: Any, network: str, amp: str | None, channels_last: bool
) -> None:
    train = {"channels_last": channels_last, **({"amp": amp} if amp else {})}
    kind, arguments = ("ESC", {"type": "ESCReal"}) if network == "ESCReal" else (network, {})
    opt = {**make_options(kind, arguments=arguments, train=train), "model_type": "ESCModel"}
    # Only in single precision do kernels choose other strides for filters of depthwise convolutions.
    two = ranks(2, opt, batches(2, 4, torch.float32))
    assert not two[0]["failure"]
    assert "strides" not in two[0]["printed"]


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


def test_processes_at_different_iterations_do_not_begin(make_options: Any, ranks: Any) -> None:
    opt = {**make_options("LMLT"), "model_type": "LMLTModel", "apart": True}
    for rank in ranks(2, opt, batches(2, 4)):
        assert "do not hold the same: iteration: 0 on process 0, 1 on process 1" in rank["failure"]
        assert "start all of them again by the same line with --auto_resume" in rank["failure"]


def test_processes_that_drift_apart_stop_at_a_checkpoint(
    make_options: Any, ranks: Any, tmp_path: Path
) -> None:
    opt = {**make_options("LMLT"), "model_type": "LMLTModel", "saves": True}
    for name in ("models", "training_states"):
        opt["path"][name] = str(tmp_path / name)
    assert [rank["failure"] for rank in ranks(2, opt, batches(3, 4))] == ["", ""]
    for path in tmp_path.glob("*/*[123]*"):
        path.unlink()
    first, second = ranks(2, {**opt, "disturbed_at": 3}, batches(3, 4))
    assert first["failure"] == second["failure"]
    assert re.search(r"weights of net_g: \w+ on process 0, \w+ on process 1", first["failure"])
    assert not (tmp_path / "training_states" / "3.state").exists(), "nothing is written then"
    assert (tmp_path / "training_states" / "2.state").exists()
