"""Losses that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small.models import step
from PIL import Image

from lmlt_arch.models import LMLTModel


@pytest.mark.parametrize(("term", "train"), [("l_pix", {}), ("l_fft", {"fft_opt": {"type": "FFTLoss"}})])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(
    make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path, term: str, train: dict[str, Any]
) -> None:
    model = LMLTModel(make_options("LMLT", train=train))
    step(model, batch)
    broken = {**batch, "gt": batch["gt"].clone(), "gt_path": ["HR/0801.png", "HR/0802.png"]}
    broken["gt"][1, 2, 3, 4] = float("nan") if term == "l_pix" else float("inf")
    step(model, broken, 2)
    refused = rf"iteration 2: .*{term} is (nan|inf).*HR/0801.png, HR/0802"
    # Whatever comes next: another iteration, the log, or a checkpoint, which is not written.
    for following in (
        lambda: step(model, batch, 3),
        model.get_current_log,
        lambda: model.save(epoch=0, current_iter=2),
    ):
        outcome = model.loss_watch.last
        with pytest.raises(FloatingPointError, match=refused):
            following()
        model.loss_watch.last = outcome
    assert not [*(tmp_path / "models").iterdir()]
    kept = tmp_path / "nonfinite_2_rank0"
    content = torch.load(kept / "batch.pth", weights_only=True)
    assert content["files"] == broken["gt_path"]
    torch.testing.assert_close(content["gt"], broken["gt"], equal_nan=True)
    with Image.open(kept / "lq.png") as shown:
        assert shown.size == (32, 16)
        expected = batch["lq"].mul(255).round().byte().permute(2, 0, 3, 1).flatten(1, 2).numpy()
        assert np.array_equal(np.asarray(shown), expected)
