"""The comparison that decides whether an exported file appears."""

from __future__ import annotations

import pytest
import torch
from helpers.small.networks import SMALL
from torch import Tensor

from lmlt_arch.archs import SRNetwork
from lmlt_arch.export.errors import ExportError
from lmlt_arch.export.verify import BATCHES, sizes, verify


@pytest.fixture(scope="module")
def network() -> SRNetwork:
    return SMALL["ESC"].filled(torch.float32, n_blocks=1, conv_blocks=1)


def run(network: SRNetwork, lq: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(lq)


def test_the_network_agrees_with_itself(network: SRNetwork) -> None:
    agreement = verify(lambda lq: run(network, lq), network, torch.float32)
    assert (agreement.runs, agreement.worst) == (12, 0)


def test_small_differences_are_measured(network: SRNetwork) -> None:
    agreement = verify(lambda lq: run(network, lq) * (1 + 5e-5), network, torch.float32)
    assert agreement.worst == pytest.approx(5e-5, rel=0.02)


@pytest.mark.parametrize("multiple", [8, 32, 48, 64, 128])
def test_what_is_tried(multiple: int) -> None:
    tried = sizes(multiple)
    assert len(set(tried)) >= 5 and len(set(BATCHES)) == 2
    assert any(height < multiple and width < multiple for height, width in tried), "smaller than a window"
    assert any(height % 2 and width % 2 for height, width in tried), "odd"
    assert any(height != width for height, width in tried), "not square"
    assert any(height > multiple or width > multiple for height, width in tried), "more than a window"


WRONG = {
    "values": lambda out: out * (1 + 2e-4),
    "one value": lambda out: torch.where(torch.arange(out.numel()).view(out.shape) == 5, out + 1, out),
    "not a number": lambda out: out * torch.nan,
    "shape": lambda out: out[..., :-1],
    "dtype": lambda out: out.double(),
    "images exchanged": lambda out: out.flip(0),
}


@pytest.mark.parametrize("fault", WRONG)
def test_faults_are_found(fault: str, network: SRNetwork) -> None:
    with pytest.raises(ExportError, match=r"the exported network (differs|gives)"):
        verify(lambda lq: WRONG[fault](run(network, lq)), network, torch.float32)


@pytest.mark.parametrize("axis", [-1, -2])
def test_a_size_that_was_frozen_is_found(axis: int, network: SRNetwork) -> None:
    """As an exporter does it that takes a free size for a fixed one."""

    def frozen(lq: Tensor) -> Tensor:
        out = run(network, lq)
        return torch.cat((out, out), axis).narrow(axis, 0, 2)

    with pytest.raises(ExportError, match="gives"):
        verify(frozen, network, torch.float32)
