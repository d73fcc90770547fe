"""The networks of ablations: official by default, and doing what their arguments say; their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.numerics import DEVICE, DTYPE, assert_close
from helpers.small.networks import SMALL, Small, image
from torch import Tensor

from lmlt_arch.archs.esc import cpu as esc_cpu
from lmlt_arch.archs.esc.variants import ESCVariant
from lmlt_arch.archs.lmlt import cpu as lmlt_cpu
from lmlt_arch.archs.lmlt.blocks import LHSB
from lmlt_arch.archs.lmlt.variants import LMLTVariant
from lmlt_arch.checkpoints.load import load_model

LMLT_ARGUMENTS = SMALL["LMLT"].kwargs
ESC_ARGUMENTS = SMALL["ESC"].kwargs
CHANGES: list[dict[str, Any]] = [
    {"levels": 2},
    {"window": 4},
    {"pooling": "average"},
    {"pooling": "stride"},
    {"levels": 1, "low_to_high": False},
    {"dynamic_kernel": False},
    {"bias": "distance"},
    {"bias": "none", "dynamic_kernel": False},
]


def variant(change: dict[str, Any]) -> LMLTVariant | ESCVariant:
    if {"dynamic_kernel", "bias"} & set(change):
        return ESCVariant(**{**ESC_ARGUMENTS, **change})
    return LMLTVariant(**{**LMLT_ARGUMENTS, **change})


@pytest.mark.parametrize("name", ["LMLT", "LMLT-no-low-to-high", "ESC", "ESC-norms"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_defaults_are_the_official_networks(name: str, train: bool) -> None:
    small = SMALL[name]
    cls = LMLTVariant if small.arch == "LMLT" else ESCVariant
    torch.manual_seed(0)
    ours = cls(**small.kwargs)
    torch.manual_seed(0)
    official = small.build()
    state, expected = ours.state_dict(), official.state_dict()
    assert [*state] == [*expected]
    assert all(torch.equal(state[key], expected[key]) for key in state)
    reference = small.reference()
    ours.load_state_dict(small.filled(torch.float32).state_dict())
    ours.to(DEVICE, DTYPE).train(train)
    x = image(19, 70, batch=2)
    with torch.no_grad():
        assert_close(ours(x), reference.train(train)(x))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_files_record_the_variant(change: dict[str, Any], tmp_path: Path) -> None:
    network = variant(change).eval()
    path, x = tmp_path / "variant.pth", image(9, 12, dtype=torch.float32).cpu()
    torch.save({"params": network.state_dict()}, path)
    loaded = load_model(path)
    assert type(loaded) is type(network)
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_other_variants_are_refused(change: dict[str, Any]) -> None:
    official = variant(
        {"low_to_high": True}
        if "bias" not in change and "dynamic_kernel" not in change
        else {"bias": "table"}
    )
    assert "variant" not in official.state_dict()
    with pytest.raises(RuntimeError, match="variant"):
        official.load_state_dict(variant(change).state_dict())
    with pytest.raises(RuntimeError, match="variant"):
        variant(change).load_state_dict(official.state_dict())


@pytest.mark.parametrize("change", CHANGES, ids=str)
@torch.no_grad()
def test_fast_paths_refuse_them(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    for fast_path in (lmlt_cpu, esc_cpu):
        monkeypatch.setattr(fast_path, "run_blocks", lambda *args, **_: calls.append(args))
    variant(change).eval()(image(9, 12, dtype=torch.float32).cpu())
    assert not calls


def test_a_contradicting_record_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"records \[4, 4, 0\], this network is \[4, 16, 0\]"):
        variant({"window": 16}).load_state_dict(variant({"window": 4}).state_dict())


class OfWholeCells(LHSB):
    """Counts the cells itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x.shape[-2] // self.cell, x.shape[-1] // self.cell)


def lhsb(levels: int, window: int, pooling: str) -> OfWholeCells:
    torch.manual_seed(0)
    dropout = {"attn_drop_rate": 0, "drop_rate": 0}
    varied: dict[str, Any] = {"levels": levels, "window": window, "pooling": pooling}
    return OfWholeCells(12, low_to_high=True, attn_type="Naive", **dropout, **varied).double()


def reach(block: OfWholeCells, row: int, column: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what a pixel of the input changes, of 64 x 64."""
    x = torch.rand(1, 12, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    # High enough to be its cell's maximum.
    x[..., row, column] += 1
    changed = x.clone()
    changed[..., row, column] += 1
    with torch.no_grad():
        difference: Tensor = (block(changed) - block(x)).abs().sum((0, 1))
    rows, columns = torch.nonzero(difference > 1e-12, as_tuple=True)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


@pytest.mark.parametrize(("levels", "window"), [(1, 8), (1, 16), (2, 4), (3, 4), (4, 8)])
def test_levels_and_windows_decide_the_reach(levels: int, window: int) -> None:
    cell = window * 2 ** (levels - 1)
    top, left = 40 // cell * cell, 24 // cell * cell
    # A pixel that "stride" would keep, too.
    for pooling in ("max", "average", "stride"):
        found = reach(lhsb(levels, window, pooling), 40, 24)
        assert found == (top, top + cell - 1, left, left + cell - 1), pooling


def test_poolings() -> None:
    """They agree where a level's cells are constant, and are what they are called where not."""
    blocks = {pooling: lhsb(3, 4, pooling) for pooling in ("max", "average", "stride")}
    x = torch.rand(2, 12, 32, 16, dtype=torch.float64)
    flat = x[..., ::4, ::4].repeat_interleave(4, -1).repeat_interleave(4, -2)
    with torch.no_grad():
        expected = blocks["max"](flat)
        assert_close(blocks["average"](flat), expected)
        assert_close(blocks["stride"](flat), expected)
        cells = x.reshape(2, 12, 8, 4, 4, 4).transpose(3, 4).flatten(4)
        assert_close(blocks["max"]._shrink(x, 4), cells.amax(-1))
        assert_close(blocks["average"]._shrink(x, 4), cells.mean(-1))
        assert_close(blocks["stride"]._shrink(x, 4), cells[..., 0])


def test_esc_without_its_parts_is_esc_with_these_at_zero() -> None:
    small = SMALL["ESC"]
    x = image(19, 23, batch=2)
    full = small.filled()
    state = {name: value.clone() for name, value in full.state_dict().items()}
    zeros = {k: torch.zeros_like(v) for k, v in state.items() if "dwc_proj.3" in k or "position_bias" in k}
    for change, zeroed in (({"dynamic_kernel": False}, "dwc_proj"), ({"bias": "none"}, "position_bias")):
        network = variant(change).to(x).eval()
        network.load_state_dict({k: v for k, v in state.items() if zeroed not in k}, strict=False)
        full.load_state_dict({**state, **{k: v for k, v in zeros.items() if zeroed in k}})
        with torch.no_grad():
            assert_close(network(x), full(x), what=str(change))
            full.load_state_dict(state)
            assert (network(x) - full(x)).abs().max() > 1e-6, "the parts must count"


def test_a_bias_by_distance_is_a_table_of_distances() -> None:
    small: Small = SMALL["ESC"]
    full, x = small.filled(), image(12, 17)
    network = variant({"bias": "distance"}).to(x).eval()
    state = {k: v for k, v in full.state_dict().items() if "position_bias" not in k}
    network.load_state_dict({**network.state_dict(), **state})
    slopes = torch.tensor([0.3, 0.07], dtype=x.dtype)
    side = torch.arange(-7, 8, dtype=x.dtype)
    distance = (side[:, None] ** 2 + side**2).sqrt().flatten()
    with torch.no_grad():
        for block, varied in zip(full.blocks, network.blocks, strict=True):
            block.attn.relative_position_bias.copy_(-slopes[:, None] * distance)
            varied.attn.slopes.copy_(slopes)
        assert_close(network(x), full(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 3}, "dim must be a multiple of levels 3"),
        ({"levels": 0}, "levels"),
        ({"window": -1}, "window"),
        ({"pooling": "mean"}, "pooling must be one of max, average, stride, got 'mean'"),
        ({"bias": "mlp"}, "bias must be one of table, distance, none, got 'mlp'"),
    ],
)
def test_unusable_arguments(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant(change)
