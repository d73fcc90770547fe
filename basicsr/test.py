"""Test with BasicSR: `python basicsr/test.py -opt options/test_LMLT_x4.yml`.

This folder only looks like a package: the BasicSR that runs is the installed one. Data paths, experiments
and results are relative to the working directory.
"""

from __future__ import annotations

import sys
from pathlib import Path

# In place of this folder, so that the plugin is found without being installed. Spawned data workers run this
# module too, under another name, and need the hook as well.
here = Path(__file__).resolve().parent
sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry) not in (here, here.parent))]

from lmlt_arch.hook import finder, launch  # noqa: E402

finder.install()

if __name__ == "__main__":
    launch.main("test")
