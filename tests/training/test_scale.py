"""A training on two machines, killed part by part, against one that was not: prove_scale.py in short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]


def test_a_training_on_two_machines_comes_back(repo_root: Path, tmp_path: Path) -> None:
    """A process dies, then both machines; torchrun starts it again, then one process goes on by hand."""
    command = [sys.executable, str(repo_root / "scripts" / "prove_scale.py"), "--short"]
    done = subprocess.run([*command, "--keep", str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 -> 2 -> 1 processes; resumed from " in done.stdout
    assert "equal bit for bit" in done.stdout
