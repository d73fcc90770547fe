"""In what processes differ, and what a resumed run has changed, in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lmlt_arch.models.agreement import changes_since, differences


def test_what_is_alike_is_not_named() -> None:
    assert [*differences([{"iteration": 3, "place": 4}] * 5)] == []


def test_differences_name_the_processes() -> None:
    found: list[dict[str, Any]] = [{"place": 8, "iteration": 20} for _ in range(6)]
    found[1] = {"place": 0, "iteration": 0}
    found[4] = {"iteration": 20}
    assert [*differences(found)] == [
        "iteration: 20 on process 0, 2-5, 0 on process 1",
        "place: 8 on process 0, 2-3, 5, 0 on process 1, None on process 4",
    ]
    assert [*differences([{"place": rank} for rank in range(7)])] == [
        "place: 0 on process 0, 1 on process 1, 2 on process 2, 3 on process 3, and 3 more"
    ]


@pytest.mark.parametrize(
    ("before", "processes", "total", "lr", "said"),
    [
        ({"total": 8, "processes": 2}, 2, 8, 1e-3, ""),
        (None, 2, 8, 1e-3, ""),
        (
            {"total": 8, "processes": 4},
            2,
            8,
            1e-3,
            "Resuming with 2 processes instead of 4, the batch in total stays 8.",
        ),
        (
            {"total": 16, "processes": 4},
            2,
            8,
            1e-3,
            "Resuming with 2 processes instead of 4, a batch of 8 in total instead of 16, a learning rate of "
            "0.000125 per image instead of 6.25e-05.",
        ),
        (
            {"total": 8, "processes": 2},
            2,
            8,
            5e-4,
            "Resuming with the learning rate 0.001 of the checkpoint, not 0.0005 of the options.",
        ),
    ],
)
def test_changes_are_one_line(
    before: dict[str, int] | None, processes: int, total: int, lr: float, said: str
) -> None:
    opt = {
        "model_type": "LMLTModel",
        "dist": True,
        "world_size": processes,
        "datasets": {"train": {"batch_size_per_gpu": 64}},
        "train": {"total_batch": total, "optim_g": {"lr": lr}},
    }
    model = SimpleNamespace(opt=opt, schedulers=[SimpleNamespace(base_lrs=[1e-3])])
    assert changes_since({"batch": before} if before else {}, model) == said
