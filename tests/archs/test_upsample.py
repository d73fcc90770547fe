"""UniUpsample, DySample and the upscaling of ESC-Real: every option with every scale."""

from __future__ import annotations

import pytest
import reference
import torch
from helpers.golden_rules import describe_state, fill
from helpers.numerics import DEVICE, DTYPE, assert_close
from helpers.small.networks import SMALL, Small, image
from torch import Tensor

from lmlt_arch.archs.esc.upsample import DySample, NearestConvUpsample, UniUpsample

WORKING = [
    ("conv", (1,)),
    ("pixelshuffledirect", (1, 2, 3, 4, 5, 6, 8)),
    ("pixelshuffle", (1, 2, 3, 4, 8)),
    ("nearest+conv", (1, 2, 3, 4, 8)),
    ("dysample", (1, 2, 3, 4, 5, 6, 8)),
]
PAIRS = [(name, scale) for name, scales in WORKING for scale in scales]


def features(channels: int, height: int = 5, width: int = 7) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0)).to(
        DEVICE, DTYPE
    )


@pytest.mark.parametrize("mid_dim", [16, 12])
@pytest.mark.parametrize(("upsampler", "scale"), PAIRS)
def test_uniupsample(upsampler: str, scale: int, mid_dim: int) -> None:
    ours = UniUpsample(upsampler, scale, 16, 3, mid_dim)
    plain = reference.UniUpsample(upsampler, scale, 16, 3, mid_dim)
    assert describe_state(ours) == describe_state(plain)
    assert torch.equal(ours.MetaUpsample, plain.get_buffer("MetaUpsample"))
    fill(plain)
    ours.load_state_dict(plain.state_dict())
    with torch.no_grad():
        out = ours.to(DEVICE, DTYPE)(features(16))
        assert out.shape == (2, 3, 5 * scale, 7 * scale)
        assert_close(out, plain.to(DEVICE, DTYPE)(features(16)))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_conv_refuses_to_upscale(scale: int) -> None:
    """The published code returns an image of the wrong size."""
    with pytest.raises(ValueError, match="conv"):
        UniUpsample("conv", scale, 16)
    small = SMALL["ESCRealM-x1-conv"]
    with pytest.raises(ValueError, match="conv"):
        small.build(upscaling_factor=scale)


@pytest.mark.parametrize("scale", [1, 2])
def test_conv_refuses_to_undo_an_unshuffle(scale: int) -> None:
    with pytest.raises(ValueError, match="conv"):
        SMALL["ESCRealM-x1-conv"].build(upscaling_factor=scale, unshuffle_mod=True)


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "nearest+conv"])
@pytest.mark.parametrize("scale", [5, 6, 7])
def test_scales_out_of_reach(upsampler: str, scale: int) -> None:
    with pytest.raises(ValueError, match=str(scale)):
        UniUpsample(upsampler, scale, 16)


@pytest.mark.parametrize("scale", [1, 2])
def test_unknown_upsampler(scale: int) -> None:
    with pytest.raises(ValueError, match="lanczos"):
        UniUpsample("lanczos", scale, 16)


def test_a_wrong_record_is_reported() -> None:
    """`pixelshuffle` x2 mid 8 and another of the same shapes: only the record distinguishes them."""
    ours, other = UniUpsample("nearest+conv", 2, 16), UniUpsample("nearest+conv", 3, 16)
    state = other.state_dict()
    before = {name: v.clone() for name, v in state.items()}
    with pytest.raises(RuntimeError, match="MetaUpsample"):
        ours.load_state_dict(state)
    assert all(torch.equal(state[name], v) for name, v in before.items())


def test_a_width_beyond_a_byte() -> None:
    network = UniUpsample("pixelshuffledirect", 2, 300, 3)
    assert network.MetaUpsample.tolist()[3] == 300
    UniUpsample("pixelshuffledirect", 2, 300, 3).load_state_dict(network.state_dict())


def sample_by_hand(plane: Tensor, x: float, y: float) -> Tensor:
    """Bilinear value of (C, H, W) at pixel coordinates (centers at .5), borders replicated."""
    _, height, width = plane.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    x0, y0 = int(x), int(y)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    a, b = x - x0, y - y0
    top = plane[:, y0, x0] * (1 - a) + plane[:, y0, x1] * a
    bottom = plane[:, y1, x0] * (1 - a) + plane[:, y1, x1] * a
    return top * (1 - b) + bottom * b


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@torch.no_grad()
def test_dysample_by_hand(scale: int) -> None:
    """Each output pixel on its own, from the definition."""
    groups, channels = 2, 8
    layer = DySample(channels, 3, scale, groups)
    fill(layer)
    layer.offset.weight.mul_(10)  # far enough to reach other pixels and to leave the image
    layer = layer.to(DEVICE, torch.float64)
    x = features(channels).double()[:1]
    out = layer(x)
    shift = (layer.offset(x) * torch.sigmoid(layer.scope(x)) * 0.5 + layer.init_pos)[0]
    planes = shift.reshape(2, groups, scale, scale, 5, 7)
    for row, column in [(0, 0), (2, 3), (5 * scale - 1, 7 * scale - 1), (scale, 2 * scale)]:
        i, p, j, q = row // scale, row % scale, column // scale, column % scale
        parts = []
        for g, group in enumerate(x[0].chunk(groups)):
            dx, dy = float(planes[0, g, p, q, i, j]), float(planes[1, g, p, q, i, j])
            parts.append(sample_by_hand(group, j + 0.5 + dx, i + 0.5 + dy))
        expected = layer.end_conv(torch.cat(parts)[None, :, None, None]).flatten()
        assert_close(out[0, :, row, column], expected, tolerance=1e-9)


@torch.no_grad()
def test_fresh_dysample_is_bilinear_upscaling() -> None:
    """Zero offsets: only the initial positions act."""
    layer = DySample(8, 8, 3, 4)
    torch.nn.init.zeros_(layer.offset.weight)
    assert layer.offset.bias is not None
    torch.nn.init.zeros_(layer.offset.bias)
    layer.end_conv.weight.copy_(torch.eye(8)[..., None, None])
    assert layer.end_conv.bias is not None
    torch.nn.init.zeros_(layer.end_conv.bias)
    x = features(8)
    expected = torch.nn.functional.interpolate(x, scale_factor=3, mode="bilinear", align_corners=False)
    assert_close(layer.to(DEVICE, DTYPE)(x), expected, tolerance=1e-6)


@torch.no_grad()
def test_dysample_in_half_precision_far_from_the_origin() -> None:
    """float16 cannot distinguish half pixels beyond column 1024."""
    layer = DySample(4, 3, 2, 4)
    fill(layer)
    x = torch.rand(1, 4, 1, 3000, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    exact = layer.to(DEVICE)(x)[..., 4000:]
    assert_close(layer.half()(x.half())[..., 4000:].float(), exact, tolerance=1e-2)


@pytest.mark.parametrize(("channels", "groups"), [(2, 4), (6, 4), (3, 2)])
def test_dysample_needs_whole_groups(channels: int, groups: int) -> None:
    with pytest.raises(ValueError, match=str(channels)):
        DySample(channels, 3, 2, groups)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_escreal_honors_its_scale(scale: int) -> None:
    """The published code is always x4."""
    small = Small("ESCReal", {**SMALL["ESCReal"].kwargs, "upscaling_factor": scale})
    with torch.no_grad():
        out = small.filled()(image(9, 12))
        assert out.shape[-2:] == (9 * scale, 12 * scale)
        assert_close(out, small.reference()(image(9, 12)))


def test_escreal_x4_has_the_official_keys() -> None:
    heads = [name for name in SMALL["ESCReal"].build().state_dict() if name.startswith("to_img")]
    assert heads == [f"to_img.{i}.{kind}" for i in (1, 4, 6, 8) for kind in ("weight", "bias")]


@pytest.mark.parametrize("unshuffle", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_escrealm_sizes(scale: int, unshuffle: bool) -> None:
    """Sizes that no unshuffling divides."""
    small = Small(
        "ESCRealM", {**SMALL["ESCRealM-x2"].kwargs, "upscaling_factor": scale, "unshuffle_mod": unshuffle}
    )
    with torch.no_grad():
        out = small.filled()(image(9, 7))
        assert out.shape[-2:] == (9 * scale, 7 * scale)
        assert_close(out, small.reference()(image(9, 7)))


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_strips_of_the_head_show_no_seams(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head = NearestConvUpsample(4, 3, scale).eval()
    x = torch.randn(2, 4, 13, 9)
    # With gradients it runs on the whole image.
    whole = head(x).detach()
    monkeypatch.setattr("lmlt_arch.archs.esc.upsample._STRIP", 3 * 9 * scale**2)
    with torch.no_grad():
        torch.testing.assert_close(head(x), whole, rtol=1e-5, atol=1e-6)
        monkeypatch.setattr("lmlt_arch.archs.esc.upsample._REACH", 0 if scale == 3 else 1)
        assert (head(x) - whole).abs().max() > 1e-4, "fewer rows are not enough"
