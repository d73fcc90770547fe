"""Broken option files given to BasicSR itself: one message, and nothing is created."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.throwaway import Environment

from lmlt_arch.errors import USAGE
from lmlt_arch.hook import launch

pytestmark = pytest.mark.slow

STARTS: list[list[str]] = [["basicsr/train.py"], ["-m", "basicsr.train"]]


def broken(path: Path, **changes: str) -> Path:
    text = path.read_text()
    for old, new in (("total_iter", "total_itr"), ("gamma", "gama"), *changes.items()):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_all_mistakes_and_nothing_created(
    installed: Environment, options: Callable[..., Path], repo_root: Path, tmp_path: Path, start: list[str]
) -> None:
    path = broken(options())
    command = [str(repo_root / part) if part.endswith(".py") else part for part in start]
    before = sorted(tmp_path.rglob("*"))
    said = installed.run(*command, "-opt", path, cwd=tmp_path, status=USAGE)
    assert "Traceback" not in said
    found = [line for line in said.splitlines() if line.startswith(str(path))]
    assert len(found) == 3
    assert any("unknown key 'total_itr'; did you mean 'total_iter'?" in line for line in found)
    assert any("unknown key 'gama'; did you mean 'gamma'?" in line for line in found)
    assert any("train: total_iter: is missing" in line for line in found)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The launcher's message about an option file before it starts, in this process."""
    monkeypatch.chdir(tmp_path)

    def launched(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", "-opt", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            launch.main("train")
        assert ended.value.code == USAGE
        return str(ended.value)

    return launched


def test_forced_options_are_checked_too(
    launched: Callable[..., str], options: Callable[..., Path], tmp_path: Path
) -> None:
    said = launched(options(), "--force_yml", "train:total_itr=5", "trian:total_iter=5", "train:ema_decay=2")
    assert "unknown key 'total_itr'; did you mean 'total_iter'?" in said
    assert "--force_yml trian:total_iter=5: there is no section 'trian'" in said
    assert "train: ema_decay: must be below 1; got 2" in said
    assert not (tmp_path / "experiments").exists()


def test_checkpoint_that_is_not_there(
    launched: Callable[..., str], options: Callable[..., Path], tmp_path: Path
) -> None:
    said = launched(options(weights="nowhere.pth"))
    assert "path: pretrain_network_g: there is no file nowhere.pth" in said
    assert not (tmp_path / "experiments").exists()


def test_files_of_others_are_not_read(installed: Environment, tmp_path: Path) -> None:
    """What only BasicSR's own reader takes, and keys of other models, are nothing to refuse."""
    text = "name: x\nname: y\nmodel_type: SRModel\nscale: !!python/object/apply:int [2]\nnum_gpu: 0\n"
    (tmp_path / "x.yml").write_text(f"{text}manual_seed: 0\ndatasets: {{}}\npath: {{}}\nmine: 5\n")
    said = installed.script(
        """
        import sys
        import yaml
        from basicsr.utils import options

        options.ordered_yaml = lambda: (yaml.UnsafeLoader, yaml.Dumper)
        sys.argv += ["-opt", "x.yml"]
        opt, _ = options.parse_options(".", is_train=False)
        print(opt["scale"], opt["name"], opt["mine"])
        """,
        cwd=tmp_path,
    )
    assert said.endswith("2 y 5\n")


def test_without_the_patch_a_slip_leaves_folders_and_a_traceback(
    installed: Environment, options: Callable[..., Path], repo_root: Path, tmp_path: Path
) -> None:
    said = installed.run(
        repo_root / "basicsr/train.py",
        "-opt",
        broken(options()),
        cwd=tmp_path,
        fails=True,
        skip=["option-files-checked-first"],
    )
    assert "Traceback" in said
    assert (tmp_path / "experiments").exists()
