"""Deterministic parameters and inputs of the recorded figures, and the comparison with them.

NumPy's legacy generator makes them: the same numbers on every machine and with every release of PyTorch.
"""

from __future__ import annotations

import functools
import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Case = dict[str, Any]
# Runs of the published code, one a line; made by `tests/golden/copy_published.py`.
PUBLISHED = Path(__file__).resolve().parents[1] / "golden/published.json.xz"


def parameter_values(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """What the parameter of this full dotted name holds."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    kind = name.rpartition(".")[2]
    if kind == "relative_position_bias":
        values = values * 0.2
    elif len(shape) > 1:
        values = values * (0.7 / np.sqrt(np.prod(shape[1:], dtype=float)))
    elif kind == "bias":
        values = values * 0.02
    else:
        values = values * 0.02 + 1.0
    return np.asarray(values, dtype=np.float32)


@torch.no_grad()
def fill(network: nn.Module) -> nn.Module:
    """Give every parameter its deterministic value; buffers stay as they are."""
    for name, parameter in network.named_parameters():
        parameter.copy_(torch.from_numpy(parameter_values(name, tuple(parameter.shape))))
    return network


def uniform(shape: list[int] | tuple[int, ...], seed: int) -> Tensor:
    """float32, in [0, 1)."""
    return torch.from_numpy(np.random.RandomState(seed).random_sample(tuple(shape)).astype(np.float32))


def sample_positions(count_of_all: int, count: int = 64) -> NDArray[np.int64]:
    return np.random.RandomState(7).randint(0, count_of_all, size=count)


def read_case(path: Path) -> Case:
    case: Case = json.loads(path.read_text())
    return case


@functools.cache
def _published_lines() -> dict[str, str]:
    lines = lzma.decompress(PUBLISHED.read_bytes()).decode().splitlines()
    return {json.loads(line)["name"]: line for line in lines}


def published_names() -> list[str]:
    """Names of the recorded runs of the published code."""
    return list(_published_lines())


def published_case(name: str) -> Case:
    """A recorded run of the published code."""
    case: Case = json.loads(_published_lines()[name])
    return case


def describe(value: Tensor, count: int = 64, digits: int = 10) -> Case:
    """What is recorded of a tensor."""
    flat = value.detach().double().cpu().flatten().numpy()
    positions = sample_positions(flat.size, count)

    def rounded(number: float) -> float:
        return float(f"{number:.{digits}g}")

    return {
        "shape": list(value.shape),
        "mean": rounded(flat.mean()),
        "std": rounded(flat.std()),
        "min": rounded(flat.min()),
        "max": rounded(flat.max()),
        "values": [rounded(v) for v in flat[positions]],
    }


def check_recorded(value: Tensor, record: Case, relative: float, what: str = "output") -> None:
    """Compare with a record, within `relative` of the record's largest value."""
    assert list(value.shape) == record["shape"], f"{what}: {list(value.shape)}, recorded {record['shape']}"
    flat = value.detach().double().cpu().flatten().numpy()
    allowed = relative * max(abs(record["min"]), abs(record["max"]))
    expected = np.asarray(record["values"])
    error = float(np.abs(flat[sample_positions(flat.size, expected.size)] - expected).max())
    assert error <= allowed, f"{what}: sampled values off by {error:.2e}, allowed {allowed:.2e}"
    for name, got in (("mean", flat.mean()), ("std", flat.std()), ("min", flat.min()), ("max", flat.max())):
        assert abs(got - record[name]) <= allowed, f"{what}: {name} is {got}, recorded {record[name]}"


def describe_state(network: nn.Module) -> list[list[Any]]:
    """Names, shapes, and dtypes of buffers, in order."""
    parameters = dict(network.named_parameters())
    rows = []
    for name, value in network.state_dict().items():
        kind = "param" if name in parameters else f"buffer:{str(value.dtype).removeprefix('torch.')}"
        rows.append([name, list(value.shape), kind])
    return rows


def gradient_figures(network: nn.Module, x: Tensor) -> tuple[Tensor, Case]:
    """Output, and the loss with its gradients as the figures record them."""
    x = x.clone().requires_grad_()
    output = network(x)
    weights = uniform(tuple(output.shape), 11).to(output) - 0.5
    loss = (output * weights).sum() / output.numel()
    network.zero_grad()
    loss.backward()
    assert x.grad is not None
    rows = []
    for name, p in network.named_parameters():
        assert p.grad is not None, f"{name} received no gradient"
        rows.append([name, float(p.grad.norm()), float(p.grad.sum())])
    return output, {"loss": loss.item(), "input_l2": float(x.grad.norm()), "parameters": rows}
