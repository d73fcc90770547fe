"""Copy the recorded runs of the published code into the repository, as one compressed file.

    PYTHONPATH=.:tests python tests/golden/copy_published.py ../shared/golden

Each line of `published.json.xz` is one run, as JSON, unchanged to the last digit.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

from helpers.golden_rules import PUBLISHED, read_case


def recorded_runs(folder: Path) -> list[Path]:
    """The files of runs; `official_limits.json` is not one."""
    return sorted(path for path in folder.glob("*.json") if path.stem != "official_limits")


def main() -> None:
    lines = [json.dumps(read_case(path), separators=(",", ":")) for path in recorded_runs(Path(sys.argv[1]))]
    PUBLISHED.write_bytes(lzma.compress("".join(f"{line}\n" for line in lines).encode(), preset=9))


if __name__ == "__main__":
    main()
