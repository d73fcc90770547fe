"""Agrees on a checkpoint with other processes; test_agreed_set.py runs it in several.

agree.py OUT DISK...: OUT is a folder for what each process says, DISK the run's folder for each of them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from lmlt_arch.checkpoints.agreed_set import agreed_set
from lmlt_arch.checkpoints.load import CheckpointError
from lmlt_arch.checkpoints.sets import Checkpoints


def main(out: str, *disks: str) -> None:
    rank = int(os.environ["RANK"])
    disk = Path(disks[rank])
    # The first process on each disk writes for the others there.
    os.environ["LOCAL_RANK"] = str(disks[:rank].count(disks[rank]))
    torch.distributed.init_process_group("gloo")
    try:
        state, said = agreed_set(
            Checkpoints(disk / "training_states", disk / "models", ("net_g", "net_d"), rank)
        )
        result = [str(state.relative_to(disk)) if state else None, said]
    except CheckpointError as error:
        result = ["error", str(error)]
    (Path(out) / f"{rank}.json").write_text(json.dumps(result))
    torch.distributed.barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)
