"""Record the project's own figures; to be run only while the networks match the published ones.

    PYTHONPATH=.:tests python tests/golden/make_figures.py

A file holds a small network's names and shapes, its output, and its gradients, on deterministic parameters
and inputs (`golden_rules`), in float64. They include variants that no recorded run of the published code has.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from helpers.golden_rules import Case, describe, describe_state, fill, gradient_figures, uniform
from helpers.small.networks import SMALL, Small

from lmlt_arch import archs

HERE = Path(__file__).resolve().parent


def record(small: Small) -> Case:
    """The figures of one network."""
    network: archs.SRNetwork = getattr(archs, small.arch)(**small.kwargs, attn_type="Naive")
    fill(network).double().eval()
    with torch.no_grad():
        output = network(uniform((1, 3, 13, 19), 1).double())
    trained, gradient = gradient_figures(network.train(), uniform((2, 3, 10, 12), 2).double())
    rows = [[name, float(f"{norm:.10g}")] for name, norm, _ in gradient["parameters"]]
    return {
        "class": small.arch,
        "kwargs": small.kwargs,
        "state_dict": describe_state(network),
        "eval": {"input_shape": [1, 3, 13, 19], "input_seed": 1, "output": describe(output)},
        "train": {"input_shape": [2, 3, 10, 12], "input_seed": 2, "output": describe(trained, 16)},
        "gradient": {"loss": gradient["loss"], "input_l2": gradient["input_l2"], "parameters": rows},
    }


def main() -> None:
    for name, small in SMALL.items():
        lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record(small).items())
        (HERE / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
