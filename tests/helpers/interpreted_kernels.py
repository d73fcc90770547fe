"""Triton's interpreter, and small networks whose kernels run in it; a plugin of `interpreted_*.py`."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton.language as tl
from helpers.golden_rules import fill
from helpers.small.networks import SMALL
from torch import Tensor, nn
from triton.runtime import interpreter

from lmlt_arch.archs import SRNetwork
from lmlt_arch.archs.common import kernel_dispatch
from lmlt_arch.archs.esc import cuda as esc_cuda
from lmlt_arch.archs.lmlt import cuda as lmlt_cuda
from lmlt_arch.archs.lmlt.blocks import LevelAttention

# Nothing else runs in this process: the interpreter puts its functions in the place of the language's once,
# not again, one around the other, for every call of a function. Nor does it make a table of types each time.
interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
interpreter._patch_lang = lambda _function: interpreter._LangPatchScope()
type_of = interpreter._get_np_dtype
known_type_of = functools.cache(type_of)
interpreter._get_np_dtype = lambda kind: (type_of if kind.scalar.is_ptr() else known_type_of)(kind.scalar)


CALLS = torch.profiler.ProfilerActivity.CPU
# Of the largest value. Half precision rounds what lies between kernels, and factors of products.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    assert kernel_dispatch.interpreted()
    torch.manual_seed(0)
    # Memory that nothing was written to holds NaN.
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def fast_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For which networks the kernels of whole blocks ran."""
    calls: list[str] = []

    def counted(name: str, path: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: object) -> Tensor:
            calls.append(name)
            return path(*args)

        return call

    monkeypatch.setattr(lmlt_cuda, "run_blocks", counted("LMLT", lmlt_cuda.run_blocks))
    monkeypatch.setattr(esc_cuda, "run_blocks", counted("ESC", esc_cuda.run_blocks))
    return calls


def operator_calls(call: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Output, and how often the operator for training ran for it."""
    with torch.profiler.profile(activities=[CALLS]) as profile:
        out = call()
    return out, sum(event.name == "lmlt_arch::attend_windows" for event in profile.events())


def exact(module: nn.Module) -> Any:
    """A readable copy in float64."""
    copied = copy.deepcopy(module).double()
    for each in copied.modules():
        if hasattr(each, "attn_type"):
            each.attn_type = "Naive"
    return copied


ONE_BLOCK = {name: replace(SMALL[name], kwargs={**SMALL[name].kwargs, "n_blocks": 1}) for name in SMALL}


def esc(arch: str = "ESC", **kwargs: Any) -> SRNetwork:
    """With windows of 8 x 8 pixels."""
    small = {"pdim": 4, "kernel_size": 5, "n_blocks": 1, "conv_blocks": 1, **kwargs}
    return replace(SMALL["ESC"], arch=arch).filled(torch.float32, attn_type="Triton", **small)


def level_attention(width: int, **kwargs: Any) -> LevelAttention:
    options = {"attn_drop_rate": 0.0, "drop_rate": 0.0, "attn_type": "Triton", **kwargs}
    return fill(LevelAttention(width, **options))
