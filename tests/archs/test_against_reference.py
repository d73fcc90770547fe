"""Every network equals the plain reference: outputs and gradients, every size and batch, both modes."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import DEVICE, DTYPE, assert_close
from helpers.small.networks import ONE_PER_CLASS, SMALL, Small, image
from torch import Tensor, nn

from lmlt_arch import archs

# What marks a variant that the published code does not have.
OWN_BUFFERS = {"low_to_high", "to_img.scale"}


def random_pair(small: Small, seed: int) -> tuple[archs.SRNetwork, nn.Module]:
    """Both networks with the same random parameters, none of them near a special value."""
    reference = small.reference()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in reference.parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.add_((0.3 * p.std(correction=0).cpu() * noise + 0.01 * noise).to(p))
    network = small.build().to(DEVICE, DTYPE)
    missing, unexpected = network.load_state_dict(reference.state_dict(), strict=False)
    assert set(missing) <= OWN_BUFFERS
    assert not unexpected
    return network, reference


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_outputs(small: Small, train: bool) -> None:
    # Below the published minimum, odd, a whole window, more than one window.
    for seed, (height, width) in enumerate([(1, 1), (2, 9), (17, 5), (64, 8), (35, 67)]):
        network, reference = random_pair(small, seed)
        x = image(height, width, batch=2, seed=seed)
        with torch.no_grad():
            expected = reference.train(train)(x)
            assert_close(network.train(train)(x), expected, what=f"{height} x {width}")


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_gradients(small: Small, train: bool) -> None:
    network, reference = random_pair(small, 5)
    weights = torch.randn(small.scale * 13, small.scale * 18, generator=torch.Generator().manual_seed(6))
    results: list[dict[str, Tensor]] = []
    for net in (network, reference):
        x = image(13, 18, batch=2).requires_grad_()
        (net.train(train)(x) * weights.to(x)).mean().backward()
        assert x.grad is not None
        grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        results.append({"input": x.grad, **grads})
    ours, plain = results
    assert ours.keys() == plain.keys()
    for name, expected in plain.items():
        assert_close(ours[name], expected, tolerance=1e-9 if DTYPE is torch.float64 else 1e-3, what=name)


def test_low_to_high_switch() -> None:
    """Without the connection LMLT is another function, and still the reference's."""
    on = Small("LMLT", {**SMALL["LMLT-no-low-to-high"].kwargs, "low_to_high": True})
    off = SMALL["LMLT-no-low-to-high"]
    x = image(20, 24)
    with torch.no_grad():
        difference = (on.filled()(x) - off.filled()(x)).abs().max()
        assert difference > 0.01
        assert_close(off.filled()(x), off.reference()(x))
    assert "low_to_high" not in on.build().state_dict()


@pytest.mark.parametrize("kernel_size", [3, 7, 13, 17])
@pytest.mark.parametrize("name", [n for n in ONE_PER_CLASS if n != "LMLT"])
def test_kernel_sizes(name: str, kernel_size: int) -> None:
    small = Small(SMALL[name].arch, {**SMALL[name].kwargs, "kernel_size": kernel_size, "n_blocks": 1})
    x = image(19, 11)
    for train in (False, True):
        with torch.no_grad():
            expected = small.reference().train(train)(x)
            assert_close(small.filled().train(train)(x), expected, what=f"train={train}")


def test_dropout_acts_in_training_only() -> None:
    kwargs = {"dim": 16, "n_blocks": 1, "upscaling_factor": 2}
    plain, x = Small("LMLT", kwargs), image(16, 16)
    for rate in ("drop_rate", "attn_drop_rate"):
        network = Small("LMLT", {**kwargs, rate: 0.5}).filled()
        with torch.no_grad():
            expected = plain.filled()(x)
            assert_close(network(x), expected, what=rate)
            assert (network.train()(x) - expected).abs().max() > 1e-3, rate
    # Accepted and without effect, as published.
    with torch.no_grad():
        ignored = Small("LMLT", {**kwargs, "drop_path_rate": 0.9}).filled().train()
        assert_close(ignored(x), plain.filled()(x))
