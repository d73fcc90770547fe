"""Starts basicsr/train.py in a folder of this rank's own, as on a machine without a shared disk.

own_disk.py FOLDERS ARGUMENT...: FOLDERS has one for each rank, and commas between them.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    folders = sys.argv.pop(1).split(",")
    rank = int(os.environ.get("RANK", "0"))
    os.environ["LOCAL_RANK"] = str(folders[:rank].count(folders[rank]))
    Path(folders[rank]).mkdir(exist_ok=True)
    os.chdir(folders[rank])
    launcher = Path(__file__).resolve().parents[3] / "basicsr" / "train.py"
    sys.argv[0] = str(launcher)
    try:
        runpy.run_path(str(launcher), run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    # Without tearing down: now and then PyTorch waits for ever for a thread of gloo, which waits for the GIL.
    os._exit(0)
