"""Which checkpoints a run keeps: the newest, with kills at each step of a deletion, and the best networks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import forked
from helpers.small.models import step
from helpers.small.sets import NETWORKS, flip, write_set
from PIL import Image

from lmlt_arch.checkpoints.load import load_model
from lmlt_arch.checkpoints.sets import Checkpoints
from lmlt_arch.models import LMLTModel
from lmlt_arch.models.keeping import Best, OldSets, best_file, read_best

PSNR = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True, "better": "higher"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("basicsr")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "basicsr")
    yield caplog
    logger.removeHandler(caplog.handler)


# The newest sets


@pytest.fixture
def sets(tmp_path: Path) -> OldSets:
    """Sets of two networks and two ranks, of iterations 2 to 8; that of 4 has no manifest."""
    for iteration in (2, 4, 6, 8):
        files = write_set(tmp_path, iteration, manifest=iteration != 4)
        (tmp_path / "training_states" / f"{iteration}.rank1.pth").write_bytes(files["rank"].read_bytes())
    return OldSets(tmp_path / "training_states", tmp_path / "models", NETWORKS)


def files_of(iteration: int) -> set[str]:
    networks = {f"{name}_{iteration}.pth" for name in NETWORKS}
    states = {f"{iteration}.{name}" for name in ("state", "rank0.pth", "rank1.pth", "manifest.json")}
    return networks | (states - {"4.manifest.json"})


def resumed(sets: OldSets) -> tuple[str, str]:
    """What `--auto_resume` takes, and of what it warns, as a rank and for all."""
    found = set()
    for rank in (0, None):
        state, wrong = Checkpoints(sets.states, sets.models, NETWORKS, rank).to_resume()
        assert state is not None
        found.add((state.name, wrong))
    (one,) = found
    return one


def killed_after(steps: int, run: Callable[[], None]) -> bool:
    """Run in a process that dies before it deletes or renames one file more; whether it came to its end."""
    child = os.fork()
    if not child:
        left = steps

        def watch(event: str, _: object) -> None:
            nonlocal left
            if event in ("os.remove", "os.rename"):
                left -= 1
                if left < 0:
                    os._exit(9)

        status = 1
        try:
            sys.addaudithook(watch)
            run()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 0


def test_the_newest_stay(sets: OldSets, tmp_path: Path) -> None:
    others = {
        *("net_g_latest.pth", "net_d_latest.pth", "net_g_best_Set5.pth", "net_g_2_mine.pth", "other_2.pth"),
        *("net_g_22.pth", "net_g_2.pth.bak", "net_g_1.pth", "net_x_2.pth"),
    }
    kept = {"2.rankle.pth", "notes.txt", "02.state", "-2.state", "best.state", "1.rank0.pth"}
    for name in others:
        (sets.models / name).write_bytes(b"x")
    for name in kept:
        (sets.states / name).write_bytes(b"x")
    sets.drop(8, 4)
    assert names(tmp_path) == others | kept | set().union(*map(files_of, (2, 4, 6, 8)))
    sets.drop(8, 3)
    assert names(tmp_path) == others | kept | set().union(*map(files_of, (4, 6, 8)))
    sets.drop(8, 1)
    assert names(tmp_path) == others | kept | files_of(8)


def test_a_kill_at_each_step_leaves_nothing_to_complain_of(sets: OldSets, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    steps = 0
    while not killed_after(steps, lambda: sets.drop(6, 1)):
        assert resumed(sets) == ("8.state", "")
        assert files_of(6) | files_of(8) <= names(tmp_path)
        # What `--auto_resume` of a damaged newest set falls back to is whole too, or there is no such set.
        for state in sets.states.glob("*.state"):
            assert Checkpoints(sets.states, sets.models, NETWORKS).problem(state) == ""
        for path in {*sets.states.iterdir()}:
            path.unlink()
        for path, content in before.items():
            path.write_bytes(content)
        steps += 1
    assert steps == 2 * 7
    assert names(tmp_path) == files_of(6) | files_of(8)


@pytest.mark.parametrize("steps", range(14))
def test_the_next_deletion_finds_what_a_killed_one_left(sets: OldSets, tmp_path: Path, steps: int) -> None:
    assert not killed_after(steps, lambda: sets.drop(6, 1))
    write_set(tmp_path, 10)
    sets.drop(10, 3)
    assert names(tmp_path) == files_of(6) | files_of(8) | files_of(10) - {"10.rank1.pth"}


def test_a_set_that_was_written_again_stays(sets: OldSets, tmp_path: Path) -> None:
    assert not killed_after(3, lambda: sets.drop(4, 1))
    assert "2.dropped" in names(tmp_path)
    write_set(tmp_path, 2)
    sets.drop(2, 1)  # of a run that goes on from before
    assert "2.dropped" not in names(tmp_path)
    assert files_of(2) - {"2.rank1.pth"} <= names(tmp_path)
    assert resumed(sets) == ("8.state", "")


def test_later_sets_of_a_run_that_goes_on_from_an_older_one(sets: OldSets, tmp_path: Path) -> None:
    sets.drop(4, 1)
    assert names(tmp_path) == set().union(*map(files_of, (4, 6, 8)))


def test_spared_iterations(sets: OldSets, tmp_path: Path) -> None:
    OldSets(sets.states, sets.models, NETWORKS, {4}).drop(8, 1)
    assert names(tmp_path) == files_of(4) | files_of(8)


def test_what_cannot_be_deleted_is_named(
    sets: OldSets, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    (sets.models / "net_g_2.pth").unlink()
    (sets.models / "net_g_2.pth").mkdir()
    sets.drop(8, 2)
    assert names(tmp_path) >= files_of(6) | files_of(8)
    assert "Checkpoint 2 was not deleted" in log.text
    assert "Deleted old checkpoints: 4 (keep_checkpoints: 2)." in log.text
    assert resumed(sets) == ("8.state", "")


def keeping(make_options: Any, tmp_path: Path, **logger: Any) -> LMLTModel:
    opt = make_options("LMLT")
    opt["path"]["visualization"] = str(tmp_path / "visualization")
    val = {"val_freq": 1, "save_img": False, "metrics": {"psnr": PSNR}}
    return LMLTModel({**opt, "val": val, "logger": {**opt["logger"], **logger}})


def test_a_run_keeps_two_sets(make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path) -> None:
    model = keeping(make_options, tmp_path, keep_checkpoints=2)
    for iteration in (1, 2, 10):
        step(model, batch, iteration)
        model.save(epoch=0, current_iter=iteration)
    model.save(epoch=0, current_iter=-1)
    states = {f"{i}.{name}" for i in (2, 10) for name in ("state", "rank0.pth", "manifest.json")}
    assert names(tmp_path) == states | {"net_g_2.pth", "net_g_10.pth", "net_g_latest.pth"}
    # A resumed run counts those from before.
    more = keeping(make_options, tmp_path, keep_checkpoints=1)
    step(more, batch, 11)
    more.save(epoch=0, current_iter=11)
    assert names(tmp_path / "training_states") == {"11.state", "11.rank0.pth", "11.manifest.json"}


@pytest.mark.parametrize("on_another_disk", [False, True])
def test_another_process_deletes_its_own_files_and_on_another_disk_the_sets_received(
    make_options: Any,
    batch: dict[str, torch.Tensor],
    tmp_path: Path,
    sets: OldSets,
    monkeypatch: pytest.MonkeyPatch,
    on_another_disk: bool,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0" if on_another_disk else "2")
    old = files_of(2) | files_of(4) | files_of(6) if on_another_disk else set()
    # No network_d in the options.
    before = names(tmp_path) - {name for name in old if not name.startswith("net_d")}
    opt = make_options("LMLT") | {"rank": 2}
    model = LMLTModel({**opt, "logger": {**opt["logger"], "keep_checkpoints": 1}})
    for iteration in (9, 10, 11):
        step(model, batch, iteration)
        model.save(epoch=0, current_iter=iteration)
    assert names(tmp_path) == before | {"10.rank2.pth", "11.rank2.pth"}


@pytest.mark.parametrize("blocked", ["models/net_g_2.pth", "2.rank0.pth", "2.state", "2.manifest.json"])
def test_a_set_that_was_not_written_deletes_nothing(
    make_options: Any,
    batch: dict[str, torch.Tensor],
    tmp_path: Path,
    blocked: str,
    log: pytest.LogCaptureFixture,
) -> None:
    model = keeping(make_options, tmp_path, keep_checkpoints=1)
    step(model, batch)
    model.save(epoch=0, current_iter=1)
    first = names(tmp_path)
    # A folder of that name keeps the file from being written.
    path = tmp_path / (blocked if "/" in blocked else f"training_states/{blocked}")
    path.mkdir()
    model.save(epoch=0, current_iter=2)
    assert "Checkpoint 2 was not saved" in log.text
    assert first <= names(tmp_path)
    path.rmdir()
    model.save(epoch=0, current_iter=2)
    assert names(tmp_path / "training_states") == {"2.state", "2.rank0.pth", "2.manifest.json"}


def test_what_the_run_went_on_from_in_another_folder_stays(
    make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    first = keeping(make_options, tmp_path)
    step(first, batch)
    first.save(epoch=0, current_iter=1)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "training_states").rename(elsewhere)
    (tmp_path / "training_states").mkdir()
    before = names(tmp_path)

    opt = make_options("LMLT", path={"resume_state": str(elsewhere / "1.state")})
    model = LMLTModel({**opt, "logger": {**opt["logger"], "keep_checkpoints": 1}})
    model.resume_training(torch.load(elsewhere / "1.state", weights_only=True))
    (tmp_path / "training_states" / "1.state").write_bytes((elsewhere / "1.state").read_bytes())
    for iteration in (2, 3):
        step(model, batch, iteration)
        model.save(epoch=0, current_iter=iteration)
    assert before <= names(tmp_path)
    assert "2.state" not in names(tmp_path)
    assert Checkpoints(elsewhere, tmp_path / "models", ("net_g",)).problem(elsewhere / "1.state") == ""


# The networks of the best validation


class Validated:
    """A model whose validations give what a test says."""

    def __init__(self, model: LMLTModel) -> None:
        self.model = model

    def __call__(self, iteration: int, value: float) -> None:
        networks = {"params": self.model.net_g, "params_ema": self.model.net_g_ema}
        with torch.no_grad():
            next(self.model.net_g.parameters()).fill_(iteration)
        found = Best("Set5", "psnr", "higher", value, iteration)
        self.model.checkpoint_files.find_best("Set5")
        self.model.checkpoint_files.keep_best(networks, found)


def test_a_worse_validation_replaces_nothing_after_a_kill_either(make_options: Any, tmp_path: Path) -> None:
    path = tmp_path / "models" / "net_g_best_Set5.pth"

    def kept() -> tuple[int, float]:
        (found, content) = read_best(path), torch.load(path, weights_only=True)
        assert found is not None
        assert next(iter(content["params"].values())).unique().item() == found.iteration
        return found.iteration, found.value

    validated = Validated(keeping(make_options, tmp_path, keep_best="psnr"))
    for iteration, value, expected in ((1, 30, 1), (2, 29, 1), (3, 31, 3), (4, 31, 3)):
        validated(iteration, value)
        assert kept()[0] == expected
    # Killed here, before the next training state: the run goes on from an older one.
    validated = Validated(keeping(make_options, tmp_path, keep_best="psnr"))
    validated(3, 30.5)
    assert kept() == (3, 31)
    validated(4, 32)
    assert kept() == (4, 32)


def test_a_full_disk_or_a_damaged_file(
    make_options: Any, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "models" / "net_g_best_Set5.pth"
    validated = Validated(keeping(make_options, tmp_path, keep_best="psnr"))
    path.mkdir()
    validated(1, 31)
    assert "The best networks, psnr 31.0000 of iteration 1, were not saved: cannot write" in log.text
    path.rmdir()
    validated(2, 30)  # that of 31 is nowhere
    assert read_best(path) == Best("Set5", "psnr", "higher", 30, 2)
    flip(path)
    Validated(keeping(make_options, tmp_path, keep_best="psnr"))(3, 29)
    assert f"{path} is replaced" in log.text
    assert read_best(path) == Best("Set5", "psnr", "higher", 29, 3)


# Whole runs


@pytest.fixture
def option_file(repo_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """A small LMLT that trains and validates on four pictures."""
    random = torch.Generator().manual_seed(0)
    for number in range(4):
        pixels = (torch.rand(40, 44, 3, generator=random) * 255).byte().numpy()
        for folder, factor in (("HR", 4), ("LR", 1)):
            (tmp_path / folder).mkdir(exist_ok=True)
            image = Image.fromarray(pixels).resize((24 * factor, 20 * factor), Image.Resampling.BICUBIC)
            image.save(tmp_path / folder / f"{number}.png")

    def write(iterations: int, **logger: Any) -> Path:
        opt: dict[str, Any] = yaml.safe_load((repo_root / "options" / "demo_LMLT_x4.yml").read_text())
        pairs = {"dataroot_gt": str(tmp_path / "HR"), "dataroot_lq": str(tmp_path / "LR")}
        pairs |= {"type": "PairedImageDataset", "io_backend": {"type": "disk"}}
        loader = {"num_worker_per_gpu": 0, "batch_size_per_gpu": 2, "persistent_workers": False}
        opt["name"] = "run"
        opt["network_g"] |= {"dim": 12, "n_blocks": 1}
        opt["datasets"]["train"] |= {**pairs, **loader, "gt_size": 32}
        opt["datasets"] |= {"val": {**pairs, "name": "one set"}, "val_2": {**pairs, "name": "two: sets"}}
        opt["val"] = {"val_freq": 3, "save_img": False, "metrics": {"psnr": PSNR}}
        opt["train"] |= {"total_iter": iterations, "warmup_iter": -1}
        opt["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [100], "gamma": 0.5}
        opt["logger"] = {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False, **logger}
        (tmp_path / "run.yml").write_text(yaml.safe_dump(opt))
        return tmp_path / "run.yml"

    return write


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_and_its_continuation(
    option_file: Callable[..., Path], repo_root: Path, tmp_path: Path, processes: int
) -> None:
    run = tmp_path / "experiments" / "run"
    train = repo_root / "basicsr" / "train.py"
    launcher = ["--launcher", "pytorch"] if processes > 1 else []

    def finish(iterations: int, *more: str) -> str:
        file = option_file(iterations, keep_checkpoints=2, keep_best="psnr")
        return forked.run(train, "-opt", file, *launcher, *more, cwd=tmp_path, processes=processes)

    def best() -> dict[str, Best | None]:
        return {name: read_best(best_file(run / "models", name)) for name in ("one set", "two: sets")}

    text = finish(7)
    assert "Traceback" not in text
    kept = best()
    states = {f"{i}.{name}" for i in (4, 6) for name in ("state", "manifest.json")}
    states |= {f"{i}.rank{rank}.pth" for i in (4, 6) for rank in range(processes)}
    files = {best_file(run / "models", name).name for name in kept}
    files |= {"net_g_4.pth", "net_g_6.pth", "net_g_latest.pth"}
    assert names(run / "training_states") == states
    assert names(run / "models") == files
    for name, found in kept.items():
        assert found is not None
        assert f"{found.value:.4f} @ {found.iteration} iter" in text
        load_model(best_file(run / "models", name))
    assert kept["one set"] is not None and kept["two: sets"] is not None
    assert kept["one set"].value == kept["two: sets"].value

    text = finish(8, "--auto_resume")
    assert "iter: 6." in text
    assert "not whole" not in text
    assert {name.split(".")[0] for name in names(run / "training_states")} == {"6", "8"}
    for name, found in best().items():
        before = kept[name]
        assert found is not None and before is not None
        assert found == before or found.value > before.value
