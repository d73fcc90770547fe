"""CKA of layers: the same, turned, unrelated; the estimator against its definition, batches against all."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.experiment_programs import experiment_program
from helpers.small.evaluations import checkpoint, save
from numpy.typing import NDArray
from skimage import data
from torch import Tensor, nn

from common.brief_training import BRIEF
from layer_similarity import Layers, cka, compare_layers, find_layers, unbiased_hsic
from lmlt_arch.archs import ESC, LMLT
from lmlt_arch.errors import UsageError

Array = NDArray[np.float64]


class Planted(nn.Module):
    """Layers that return known features of an image: an image is its number in `features`."""

    def __init__(self, *features: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Embedding.from_pretrained(table) for table in features)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            layer(x)
        return x


def compare(*features: Tensor, batch: int) -> Layers:
    network = Planted(*features)
    numbers = torch.arange(len(features[0])).split(batch)
    return compare_layers(network, find_layers(network, r"\(Embedding\)"), numbers)


def draw(images: int, width: int, *, seed: int = 0) -> Tensor:
    return torch.randn(images, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hsic_by_quadruples(first: Array, second: Array) -> float:
    """The U-statistic written down: the mean over all quadruples of different images."""
    n = len(first)
    total, count = 0.0, 0
    for i, j, k, m in itertools.permutations(range(n), 4):
        total += first[i, j] * (second[i, j] + second[k, m] - 2 * second[i, k])
        count += 1
    return total / count


def test_the_estimator_is_the_mean_over_quadruples() -> None:
    grams = np.stack(
        [
            (x @ x.T).numpy()
            for x in (draw(7, 3), draw(7, 5, seed=1) + draw(7, 3) @ torch.ones(3, 5, dtype=torch.float64))
        ]
    )
    found = unbiased_hsic(grams)
    for a, b in itertools.product(range(2), repeat=2):
        assert found[a, b] == pytest.approx(hsic_by_quadruples(grams[a], grams[b]))


def test_batches_expect_what_all_images_at_once_give() -> None:
    """Over all ways to choose a batch, the mean is exactly the estimate from all images."""
    first, second = draw(8, 3), draw(8, 3) ** 2
    grams = np.stack([(x @ x.T).numpy() for x in (first, second)])
    batches = [
        unbiased_hsic(grams[:, chosen][:, :, chosen])
        for chosen in map(list, itertools.combinations(range(8), 4))
    ]
    np.testing.assert_allclose(np.mean(batches, axis=0), unbiased_hsic(grams), rtol=1e-10)


def test_many_small_batches_give_nearly_what_a_large_one_gives() -> None:
    common = draw(1024, 4)
    other = 0.7 * common @ draw(4, 4, seed=1) + draw(1024, 4, seed=2)
    whole = cka(compare(common, other, batch=1024).hsic)
    small = cka(compare(common, other, batch=8).hsic)
    assert 0.2 < whole[0, 1] < 0.9
    assert small[0, 1] == pytest.approx(whole[0, 1], abs=0.05)
    # A biased estimator from batches would not: with eight images, unrelated features look alike.
    x, y = draw(8, 64), draw(8, 64, seed=3)
    centered = [part - part.mean(0) for part in (x, y)]
    biased = (centered[0].T @ centered[1]).square().sum() / np.prod(
        [float((part.T @ part).square().sum() ** 0.5) for part in centered]
    )
    assert biased > 0.5


def test_known_similarities() -> None:
    features = draw(256, 6)
    turned = 3 * features @ torch.linalg.qr(draw(6, 6, seed=1)).Q + 5
    unrelated = draw(256, 6, seed=2)
    found = cka(compare(features, features.clone(), turned, unrelated, batch=16).hsic)
    np.testing.assert_allclose(found[:3, :3], 1, atol=1e-9)
    assert abs(found[0, 3]) < 0.05
    np.testing.assert_allclose(found, found.T)
    # CKA sees an invertible map that is no rotation.
    stretched = features * torch.tensor([10.0, 1, 1, 1, 1, 1])
    assert cka(compare(features, stretched, batch=256).hsic)[0, 1] < 0.8


def test_attention_layers_are_found_in_the_order_in_which_they_run() -> None:
    network = LMLT(8, 2, upscaling_factor=2).eval()
    layers = find_layers(network)
    assert len(layers) == 8
    found = compare_layers(network, layers, [torch.rand(4, 3, 16, 16)])
    assert found.names == [f"feats.{block}.lhsb.mfr.{level}" for block in range(2) for level in (3, 2, 1, 0)]
    assert found.hsic.shape == (1, 8, 8)
    assert not any(module._forward_hooks for module in network.modules())
    names = [*find_layers(ESC(8, 4, 5, 2, 1, 8, 2, 2))]
    assert names == ["blocks.0.attn", "blocks.0.pconvs.0", "blocks.1.attn", "blocks.1.pconvs.0"]


def test_windows_cut_from_images_are_put_together() -> None:
    from basicsr.archs.swinir_arch import SwinIR

    torch.manual_seed(0)
    network = SwinIR(
        **{key: value for key, value in BRIEF["SwinIR"].items() if key != "type"}, upscale=2
    ).eval()
    layers = find_layers(network)
    assert len(layers) == 4
    images = torch.rand(4, 3, 16, 16)
    grams = []
    with torch.inference_mode():
        for image in images:
            kept: list[Tensor] = []
            handles = [
                layer.register_forward_hook(lambda _m, _i, output, kept=kept: kept.append(output))
                for layer in layers.values()
            ]
            network(image[None])
            for handle in handles:
                handle.remove()
            grams.append([output.flatten().double() for output in kept])
    expected = np.stack(
        [
            (features @ features.T).numpy()
            for features in (torch.stack(list(layer)) for layer in zip(*grams, strict=True))
        ]
    )
    found = compare_layers(network, layers, [images])
    np.testing.assert_allclose(found.hsic[0], unbiased_hsic(expected), rtol=1e-3)


def test_layers_that_cannot_be_compared_are_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.never, self.once = nn.Identity(), nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.once(self.twice(self.twice(x)))

    network, images = Odd(), [torch.rand(4, 3, 4, 4)]
    with pytest.raises(UsageError, match="twice runs more than once"):
        compare_layers(network, find_layers(network, "twice|once"), images)
    with pytest.raises(UsageError, match="never does not run"):
        compare_layers(network, find_layers(network, "never|once"), images)
    with pytest.raises(UsageError, match="1 layers match"):
        find_layers(network, "once")
    with pytest.raises(UsageError, match="--layers"):
        find_layers(network, "(")


def test_program_compares_the_layers_of_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, pixels in (("cat", data.chelsea()), ("coffee", data.coffee())):
        save(tmp_path / "photos" / f"{name}.png", np.ascontiguousarray(pixels[:140, :150]))
    output = tmp_path / "layers"
    command = ["--model", str(checkpoint(tmp_path / "ours.pth")), "--data", str(tmp_path / "photos")]
    command += ["--device", "cpu", "-o", str(output), "--crops", "10", "--batch", "4", "--size", "32"]
    program = experiment_program("layer_similarity")
    assert program.main(command) == 0
    result = json.loads(output.with_suffix(".json").read_text())
    assert result["crops"] == 8
    found = result["networks"]["ours"]
    similarity = np.array(found["similarity"])
    assert found["layers"] == [f"feats.0.lhsb.mfr.{level}" for level in (3, 2, 1, 0)]
    np.testing.assert_allclose(similarity.diagonal(), 1)
    assert found["neighbors"][0] == pytest.approx(similarity.diagonal(1).mean(), abs=1e-5)
    assert output.with_suffix(".png").stat().st_size > 5_000
    capsys.readouterr()
    for extra, said in (
        (["--batch", "3"], "--batch 3"),
        (["--crops", "2"], "--crops 2"),
        (["--layers", "none"], "--layers"),
    ):
        assert program.main([*command, *extra]) == 2
        assert said in capsys.readouterr().err


def test_short_names_keep_what_differs() -> None:
    program = experiment_program("layer_similarity")
    assert program.short_names(["a.b.x", "a.b.y.z"]) == ["x", "y.z"]
    assert program.short_names(["a.x", "b.x"]) == ["a.x", "b.x"]
