"""The ablation runner: a variant that is planted better is found; runs are alike; runs resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.experiment_programs import program
from helpers.small.evaluations import photo, save

from ablation import read_plan
from common.training import Schedule, run_options
from lmlt_arch.errors import UsageError

PLANTED: dict[str, Any] = {
    "plain": {},
    # It starts from the image repeated in place of nothing, and without what only the base takes.
    "planted": {
        "type": "ESC",
        "dim": 8,
        "pdim": 4,
        "kernel_size": 3,
        "n_blocks": 1,
        "conv_blocks": 1,
        "window_size": 8,
        "num_heads": 2,
        "ffn_scale": None,
    },
}
Run = Callable[[Path], int]


@pytest.fixture
def plan(repo_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of variants of a very small LMLT."""
    for number in range(3):
        save(tmp_path / "train" / f"{number}.png", photo(64, 64, left=60 + 40 * number))
    save(tmp_path / "data" / "HR" / "cat.png", photo())

    def write(variants: dict[str, Any], **more: Any) -> Path:
        content = {
            "base": str(repo_root / "options" / "train_LMLT_tiny_x2.yml"),
            "small": {"dim": 8, "n_blocks": 1},
            "variants": variants,
            **more,
        }
        (tmp_path / "plan.yml").write_text(yaml.safe_dump(content, sort_keys=False))
        return tmp_path / "plan.yml"

    return write


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program with one seed, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(plan: Path) -> int:
        command = [str(plan), "--train", "train", "--data", "data", "--seeds", "3", "--iterations", "4"]
        command += ["--batch", "2", "--patch", "8", "--device", "cpu", "-o", "out/found"]
        return program("ablation")(command)

    return run


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["params_ema"]
    return state


@pytest.mark.slow
def test_the_planted_variant_is_better_and_runs_resume(
    plan: Callable[..., Path], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(plan(PLANTED)) == 0
    found = json.loads((tmp_path / "out" / "found.json").read_text())
    (result,) = found["results"]
    gains = {name: entry["psnr_minus_first"]["mean"] for name, entry in result["variants"].items()}
    assert gains["plain"] == 0
    assert gains["planted"] > 3
    assert found["markdown"].count("\n| ") == 5
    assert found["markdown"] in capsys.readouterr().out
    assert (tmp_path / "out" / "found.png").read_bytes().startswith(b"\x89PNG")
    assert found["networks"]["planted"]["parameters"] > 0

    runs = tmp_path / "results" / "ablation_runs"
    plain, planted = (
        next((runs / "experiments").glob(f"{name}_seed3_*/models/net_g_latest.pth")) for name in PLANTED
    )
    expected = weights(plain)

    # As a kill after the third iteration leaves a run: its last checkpoint is the third.
    folder = plain.parents[1]
    (runs / f"{folder.name}.ended").unlink()
    for late in (plain, plain.with_name("net_g_4.pth"), folder / "training_states" / "4.state"):
        late.unlink()
    before = planted.stat().st_mtime_ns
    assert run(plan(PLANTED)) == 0
    log = (runs / f"{folder.name}.log").read_text()
    assert log.count("Resuming training from epoch: 0, iter: 3") == 1
    assert planted.stat().st_mtime_ns == before, "a run that ended is not run again"
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(plain).items())
    assert json.loads((tmp_path / "out" / "found.json").read_text()) == found
    shutil.rmtree(runs)


def test_some_variants_alone(plan: Callable[..., Path]) -> None:
    path = plan({"a": {}, "b": {"dim": 12}, "c": {"dim": 16}})
    assert [v.name for v in read_plan(path, full=False, only=["c", "a"]).variants] == ["c", "a"]
    with pytest.raises(UsageError, match="has no variant 'd'; it has a, b, c"):
        read_plan(path, full=False, only=["a", "d"])


def test_runs_of_a_seed_differ_in_name_and_network_alone(plan: Callable[..., Path], tmp_path: Path) -> None:
    variants = read_plan(plan(PLANTED), full=False).variants
    schedule = Schedule(tmp_path / "train", 50, 2, 8)
    plain, planted = (run_options(v.options, schedule, name=v.name, seed=7) for v in variants)
    assert {key for key in plain if plain[key] != planted[key]} == {"name", "network_g"}
    assert plain["manual_seed"] == 7
    assert plain["train"]["total_iter"] == 50
    assert plain["train"]["scheduler"]["periods"] == [50]
    whole = run_options(variants[0].options, Schedule(tmp_path, None, None, None), name="w", seed=7)
    assert whole["train"]["total_iter"] == 500_000
    assert whole["datasets"]["train"]["gt_size"] == 128


@pytest.mark.parametrize(
    ("variants", "more", "message"),
    [
        ({"a": {"dim": 9}}, {}, "variant a: network_g .* dim must be a multiple of 4"),
        ({"a": {"windows": 4}}, {}, "variant a: .*windows"),
        ({"a": 3}, {}, "a must hold keys and values of network_g, not 3"),
        ({}, {}, "needs the key variants"),
        ({"a": {}}, {"bases": 1}, "unknown key bases"),
        ({"a": {}}, {"base": "nowhere.yml"}, "nowhere.yml cannot be read"),
    ],
)
def test_a_wrong_plan_is_refused_before_any_training(
    plan: Callable[..., Path], variants: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_plan(plan(variants, **more), full=False)


def test_the_plans_beside_the_program(repo_root: Path) -> None:
    for name in ("lmlt", "esc"):
        for full in (False, True):
            found = read_plan(repo_root / f"scripts/experiments/ablation_{name}.yml", full=full)
            assert len(found.variants) == 8
            assert found.scale == 4
