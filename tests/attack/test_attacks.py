"""The short lane of `scripts/attack.sh`: a few attacks of each kind, the same ones each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Of each part; the long lane has no bound but its time.
FEW = {"kills": 9, "mutations": 30, "resources": 9}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="trials are forked processes")
def test_short_lane(repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "attack", "--dearest", "0.5", "--parts", *FEW]
    paths = os.pathsep.join((str(repo_root), str(repo_root / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--trials", *map(str, FEW.values())], env=environment, stdout=subprocess.PIPE, text=True
    )
    with capsys.disabled():
        print(f"\n{done.stdout}", end="")
    assert re.findall(r"^  lost: (.*)", done.stdout, re.MULTILINE) == []
    for part, few in FEW.items():
        assert f"{part}: tried {few}, survived " in done.stdout
    assert done.returncode == 0
