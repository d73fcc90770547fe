"""Keeps the best networks, each process on a disk of its own; test_best.py runs it.

best_ranks.py VALUE DISK...: VALUE is the validation's PSNR, DISK the folder of networks of each process.
"""

from __future__ import annotations

import os
import sys

import torch
from torch import nn

from lmlt_arch.models.keeping import Best
from lmlt_arch.models.saving import CheckpointFiles

if __name__ == "__main__":
    value, *disks = sys.argv[1:]
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo")
    files = CheckpointFiles({"rank": rank, "path": {"models": disks[rank]}})
    files.find_best("Set5")
    if rank == 0:
        files.keep_best({"params": nn.Conv2d(1, 1, 1)}, Best("Set5", "psnr", "higher", float(value), 8))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
