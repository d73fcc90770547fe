"""Sets of files to go on from: which are whole, what is said of those that are not, and which is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.small.sets import DAMAGE, NETWORKS, flip, has_run, write_set

from lmlt_arch.checkpoints.load import CheckpointError
from lmlt_arch.checkpoints.sets import Checkpoints, manifest_file, resumed_networks, write_manifest
from lmlt_arch.models.training_state import drop_old_rank_files


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for iteration in (2, 4):
        write_set(folder, iteration)
    return folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Checkpoints:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Checkpoints(tmp_path / "training_states", tmp_path / "models", NETWORKS, rank=0)


def state_of(run: Checkpoints, iteration: int) -> Path:
    return run.states / f"{iteration}.state"


@pytest.mark.parametrize("manifest", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize("file", ["state", "rank", *NETWORKS])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage(run: Checkpoints, damage: str, file: str, manifest: bool) -> None:
    damaged = write_set(run.states.parent, 6, manifest=manifest)[file]
    assert run.to_resume() == (state_of(run, 6), "")
    DAMAGE[damage](damaged)
    state, said = run.to_resume()
    assert (state, said) == Checkpoints(run.states, run.models, NETWORKS).to_resume(), "of all ranks"
    assert not has_run(damaged)
    # Nothing shows that the run did not write these, and the run may go on inexactly.
    if not manifest and ((damage == "foreign" and file != "state") or (damage, file) == ("missing", "rank")):
        assert (state, said) == (state_of(run, 6), "")
        return
    if (damage, file) == ("missing", "state"):
        assert said == ""  # there is no such checkpoint
    else:
        assert damaged.name in said
        assert "\n" not in said
        assert f"resume from {state_of(run, 4)}, which is whole" in run.refusal(state_of(run, 6))
    assert state == state_of(run, 4)
    assert run.refusal(state_of(run, 4)) == ""


@pytest.mark.parametrize(
    "text",
    [
        *("", '{"iteration": 4, "fi', "null", "[]", "\xff", '{"iteration": 2, "files": {}}'),
        *('{"iteration": 4}', '{"iteration": 4, "files": []}'),
        '{"iteration": 4, "files": {"4.state": {"size": "1"}}}',
    ],
)
def test_manifest_that_is_damaged(run: Checkpoints, text: str) -> None:
    manifest_file(run.states, 4).write_text(text, encoding="latin-1")
    state, said = run.to_resume()
    assert state == state_of(run, 2)
    assert "4.manifest.json: damaged" in said


@pytest.mark.parametrize("file", ["4.state", "4.rank0.pth", "net_g_4.pth", "net_d_4.pth"])
@pytest.mark.parametrize("lie", ["absent", "size", "sha256"])
def test_manifest_that_lies(run: Checkpoints, file: str, lie: str) -> None:
    path = manifest_file(run.states, 4)
    content = json.loads(path.read_text())
    if lie == "absent":
        del content["files"][file]
    else:
        content["files"][file][lie] = 1 if lie == "size" else "0" * 64
    path.write_text(json.dumps(content))
    state, said = run.to_resume()
    if (lie, file) == ("absent", "4.rank0.pth"):  # as if on the disk of another machine
        assert state == state_of(run, 4)
    else:
        assert state == state_of(run, 2)
        assert file in said


def test_manifest_of_files_that_were_damaged_before(run: Checkpoints) -> None:
    """Digests that are right do not make a file whole."""
    path = run.models / "net_g_4.pth"
    flip(path)
    write_manifest(run.states, 4, [path, state_of(run, 4), run.models / "net_d_4.pth"])
    assert "net_g_4.pth: damaged: the checksum of" in run.problem(state_of(run, 4))


def test_what_belongs_to_a_set(run: Checkpoints) -> None:
    options: dict[Any, Any] = {"network_g": {}, "network_d": {}, 3: 4, "path": {}}
    assert resumed_networks(options) == NETWORKS
    assert resumed_networks({**options, "path": {"ignore_resume_networks": ["network_d"]}}) == ("net_g",)
    (run.models / "net_d_4.pth").unlink()
    assert "net_d_4.pth is missing" in run.problem(state_of(run, 4))
    assert not Checkpoints(run.states, run.models, ("net_g",)).problem(state_of(run, 4))
    # A network of the options that no checkpoint of the run has is not one of the model.
    assert not Checkpoints(run.states, run.models, ("net_g", "net_x")).problem(state_of(run, 2))
    # The state of another iteration would go on with the networks of that one.
    (run.states / "9.state").write_bytes(state_of(run, 2).read_bytes())
    assert "9.state: is the training state of iteration 2" in run.problem(run.states / "9.state")
    # Elsewhere, under another name, it has no manifest.
    other = run.states.parent / "best.state"
    other.write_bytes(state_of(run, 2).read_bytes())
    assert not run.problem(other)
    flip(other)
    assert "put back the file as it was" in run.refusal(other)


def test_dropping_files_of_ranks_leaves_a_set_whole(run: Checkpoints) -> None:
    write_set(run.states.parent, 6)
    drop_old_rank_files(run.states, rank=0, newest=6)
    names = {path.name for path in run.states.glob("*.rank0.pth")}
    assert names == {"4.rank0.pth", "6.rank0.pth"}
    assert not run.problem(state_of(run, 2))
    # Also where those after it were taken away to go back to it.
    for path in [*run.states.glob("[46].*")]:
        path.unlink()
    assert run.to_resume() == (state_of(run, 2), "")


def test_no_set_and_none_that_is_whole(run: Checkpoints, tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "a", tmp_path / "b").to_resume() == (None, "")
    for iteration in (6, 8, 10):
        write_set(tmp_path, iteration)
    for path in run.states.glob("*.state"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"10\.state: .*8\.state: .*6\.state: .*; and 2 more\. Fix: "):
        run.to_resume()
    assert "no older checkpoint beside it is whole" in run.refusal(state_of(run, 10))
