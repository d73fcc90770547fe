"""ArbitraryScaleModel: batches of any scale, chosen pixels, validation at any size, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data
from torch.utils.data import DataLoader

from lmlt_arch.data import ArbitraryScaleDataset
from lmlt_arch.models import ArbitraryScaleModel
from lmlt_arch.options import OptionError

MakeOptions = Callable[..., dict[str, Any]]
PSNR = {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": True}


def batch(scale: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    side = round(16 * scale)
    return {
        "lq": torch.rand(2, 3, 16, 16, generator=generator),
        "gt": torch.rand(2, 3, side, side, generator=generator),
    }


def model_of(make_options: MakeOptions, **options: Any) -> ArbitraryScaleModel:
    opt = make_options("ESCLTE", train=options)
    return ArbitraryScaleModel({**opt, "model_type": "ArbitraryScaleModel"})


@pytest.mark.parametrize("queries", [None, 100])
def test_training_at_changing_scales(make_options: MakeOptions, queries: int | None) -> None:
    model = model_of(make_options, queries=queries)
    before = {name: p.clone() for name, p in model.net_g.named_parameters()}
    for step, scale in enumerate((1, 2.37, 4), 1):
        model.feed_data(batch(scale))
        model.optimize_parameters(step)
        side = round(16 * scale)
        assert model.output.shape == (2, 3, side, side) if queries is None else (2, 3, 100)
    for name, p in model.net_g.named_parameters():
        assert not torch.equal(p, before[name]), name


def test_chosen_pixels_are_those_of_the_whole(make_options: MakeOptions) -> None:
    lq, gt = batch(2.37).values()
    model = model_of(make_options, queries=60)
    output, target = model.predicted(lq, gt)
    model.train_options = model.train_options.model_copy(update={"queries": None})
    whole, _ = model.predicted(lq, gt)
    for b in range(2):
        distance = (gt[b].flatten(1)[:, :, None] - target[b][:, None]).abs().sum(0)
        places = distance.argmin(0)
        assert distance.min(0).values.max() == 0
        assert (whole[b].flatten(1)[:, places] - output[b]).abs().max() < 1e-5
        assert len(set(places.tolist())) > 50


@pytest.mark.parametrize("at_scale", [2, 6, 2.7, [1.5, 3.5]], ids=str)
@pytest.mark.parametrize("tile", [None, {"tile_size": 16, "tile_pad": 8}], ids=["whole", "tiles"])
def test_validation(make_options: MakeOptions, tmp_path: Path, at_scale: Any, tile: Any) -> None:
    Image.fromarray(data.chelsea()[100:160, 100:190]).save(tmp_path / "cat.png")
    options = {"phase": "val", "name": "cat", "dataroot_gt": str(tmp_path), "scale": 4, "at_scale": at_scale}
    opt = make_options("ESCLTE", is_train=False)
    opt |= {"val": {"save_img": False, "metrics": {"psnr": PSNR}}, **({"tile": tile} if tile else {})}
    model = ArbitraryScaleModel(opt)
    model.nondist_validation(DataLoader(ArbitraryScaleDataset(options)), 0, None, False)
    # The decoder adds to the image interpolated bilinearly, little before it is trained.
    assert 15 < model.metric_results["psnr"] < 40
    border = model.metrics_of(ArbitraryScaleDataset(options))["psnr"]["crop_border"]
    assert border == {2: 2, 6: 6, 2.7: 3}.get(at_scale if not isinstance(at_scale, list) else 0, 4)


def test_refusals(make_options: MakeOptions) -> None:
    with pytest.raises(ValueError, match="networks of any scale"):
        ArbitraryScaleModel(make_options("LMLT"))
    for change, words in (
        ({"queries": 10, "fft_opt": {"type": "FFTLoss"}}, "needs whole crops"),
        ({"compile": True}, "for every scale"),
    ):
        with pytest.raises(OptionError, match=words):
            model_of(make_options, **change)
