"""What all programs have in common."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.experiment_programs import program
from helpers.small.evaluations import checkpoint, photo, save

from common.program import Outcome, make_parser, run_experiment
from lmlt_arch.evaluation.figures import new_figure

NAMES = ("ablation", "cost_curves", "data_scaling", "robustness")


@pytest.mark.parametrize("name", NAMES)
def test_help_says_how_to_read_the_result(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program(name)(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "?" in printed, "the question"
    assert "How to read it:" in printed
    assert f"python scripts/experiments/{name}.py" in printed


def test_a_terminal_that_knows_ascii_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii", write_through=True))
    parser = make_parser("arrow", "?")
    given = ["--device", "cpu", "-o", str(tmp_path / "arrow")]
    assert run_experiment(parser, lambda args: Outcome({}, "PSNR \u2191", new_figure(1, 1)), given) == 0
    assert printed.getvalue().splitlines()[0] == b"PSNR \\u2191"


def test_too_little_memory_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def experiment(args: object) -> Outcome:
        raise MemoryError("a hundred GiB")

    given = ["--device", "cpu", "-o", str(tmp_path / "large")]
    assert run_experiment(make_parser("large", "?"), experiment, given) == 1
    assert "error: not enough memory (a hundred GiB): close other programs" in capsys.readouterr().err


def test_a_missing_extra_is_named_before_the_work(repo_root: Path, tmp_path: Path) -> None:
    save(tmp_path / "HR" / "cat.png", photo())
    script = str(repo_root / "scripts" / "experiments" / "robustness.py")
    typed = [script, "--model", str(checkpoint(tmp_path / "net.pth")), "--data", str(tmp_path)]
    source = f"""
import runpy, sys
sys.modules["scipy"] = None
sys.argv = {typed!r}
sys.path[0] = {str(Path(script).parent)!r}
runpy.run_path({script!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().endswith('needs scipy: pip install "basicsr-lmlt[train]"')
    assert "Traceback" not in done.stderr and "cell/s" not in done.stderr
