"""Kernels run only where they were seen to agree with what they stand in for."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from lmlt_arch.archs.common import kernel_dispatch


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch cannot answer without one is made up."""
    monkeypatch.setattr(kernel_dispatch, "interpreted", lambda: False)
    monkeypatch.setattr(kernel_dispatch, "_seen_to_agree", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "a GPU")


class Trial:
    """A block that doubles, and a fast way to do so that is off by a share of the largest value."""

    def __init__(self, channels: int = 4) -> None:
        self.block = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.dirac_(self.block.weight).data.mul_(2)
        self.x = torch.zeros(1, channels, 9, 7)
        self.off = 0.0
        self.constants = (5,)
        self.runs = 0

    def fast(self, x: Tensor) -> Tensor:
        self.runs += 1
        assert x.shape == (1, self.x.shape[1], 5, 5)
        if self.off == torch.inf:
            raise RuntimeError("out of resources\nmore than there is")
        return 2 * x + self.off * 2 * x.abs().max()

    def agrees(self) -> bool:
        with torch.no_grad():
            fast, constants = self.fast, self.constants
            return kernel_dispatch.agree(self.block, self.x, fast, self.block, side=5, constants=constants)


def test_what_agrees_is_tried_once() -> None:
    trial = Trial()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trial.agrees()
        trial.off = 1.0
        assert trial.agrees()
    assert trial.runs == 1


@pytest.mark.parametrize(
    ("off", "message"), [(0.01, "off by 0.01"), (torch.nan, "off by nan"), (torch.inf, "out of resources")]
)
def test_what_does_not_agree_warns_once(off: float, message: str) -> None:
    trial = Trial()
    trial.off = off
    with pytest.warns(UserWarning, match=f"Conv2d: on a GPU a kernel .*{message}"):
        assert not trial.agrees()
    trial.off = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not trial.agrees()
    assert trial.runs == 1


@pytest.mark.parametrize(
    ("precision", "dtype", "allowed", "refused"),
    [
        ("highest", torch.float32, 1e-5, 1e-3),
        ("high", torch.float32, 1e-3, 1e-2),
        ("highest", torch.bfloat16, 0.05, 0.2),
    ],
)
def test_rounded_numbers_may_differ_by_more(
    precision: str, dtype: torch.dtype, allowed: float, refused: float
) -> None:
    torch.set_float32_matmul_precision(precision)
    near, far = Trial(4), Trial(5)
    for trial, off in ((near, allowed), (far, refused)):
        trial.block, trial.x, trial.off = trial.block.to(dtype), trial.x.to(dtype), off
    assert near.agrees()
    with pytest.warns(UserWarning, match="off by"):
        assert not far.agrees()


@pytest.mark.parametrize("change", ["shape", "constants", "dtype", "class", "product", "convolution"])
def test_what_differs_is_tried_again(change: str) -> None:
    assert Trial().agrees()
    other = Trial(5 if change == "shape" else 4)
    other.off = 1.0
    if change == "constants":
        other.constants = (13,)
    elif change == "dtype":
        other.block, other.x = other.block.half(), other.x.half()
    elif change == "class":
        other.block.__class__ = type("Other", (nn.Conv2d,), {})
    elif change == "product":
        torch.set_float32_matmul_precision("high")
    elif change == "convolution":
        torch.backends.cudnn.allow_tf32 = True
    with pytest.warns(UserWarning, match="off by 1 "):
        assert not other.agrees()


def test_weights_that_are_not_finite_decide_nothing() -> None:
    """Where training went wrong, kernels are not to blame; later, finite weights are tried."""
    trial = Trial()
    trial.off = 1.0
    weight = trial.block.weight.data.clone()
    trial.block.weight.data.fill_(torch.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trial.agrees()
    trial.block.weight.data = weight
    with pytest.warns(UserWarning, match="off by 1 "):
        assert not trial.agrees()


def test_out_of_memory_is_no_verdict() -> None:
    trial = Trial()

    def greedy(_x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no memory")

    with torch.no_grad(), pytest.raises(torch.OutOfMemoryError):
        kernel_dispatch.agree(trial.block, trial.x, greedy, trial.block, side=5)
    assert trial.agrees()


def test_nothing_is_tried_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert not trial.agrees()
    assert not trial.runs
    assert trial.agrees()
