"""The state of one process of a training, for resuming bit for bit, and the signals that end a run."""

from __future__ import annotations

import io
import os
import random
import signal
import threading
import time
from pathlib import Path
from signal import Signals
from types import FrameType
from typing import Any

import numpy as np
import torch

from lmlt_arch.checkpoints.sets import manifest_file
from lmlt_arch.files import write_atomic
from lmlt_arch.group import ENDING

RankState = dict[str, Any]
"""Tensors, numbers, text, lists and dicts only, so that its files are read without executing code."""

REPEAT_S = 5.0
"""Seconds within which a second signal of a kind counts as torchrun's copy of the first."""

KEPT = 2
"""How many checkpoints keep their states of ranks on the disk: these can be large."""


def capture_rng() -> RankState:
    """The states of the global generators of Python, NumPy, PyTorch and this process's GPU."""
    version, words, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state()
    state: RankState = {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "kind": str(kind),
            "key": torch.from_numpy(np.asarray(key).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: RankState) -> None:
    """Restore the global generators from a state of `capture_rng`."""
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    key = numpy["key"].numpy().astype(np.uint32)
    np.random.set_state((numpy["kind"], key, numpy["position"], numpy["has_gauss"], numpy["cached"]))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def save_whole(content: object, path: Path) -> None:
    """`torch.save`, but all of the file or nothing.

    Args:
        content: what PyTorch can serialize.
        path: the file.

    Raises:
        OutputError: the file could not be written.
    """
    # Serialized in memory first: PyTorch's own writer reports a full disk as an obscure RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue(), durable=True)


def drop_old_rank_files(folder: Path, rank: int, newest: int) -> None:
    """Delete a rank's files except those of the newest checkpoints.

    Manifests that list them are deleted first: a set that was made smaller on purpose must not look damaged.

    Args:
        folder: of the training states.
        rank: of this process.
        newest: the iteration that was just saved. Later ones, of a run that was gone back in, stay.
    """
    found = {int(path.name.split(".")[0]): path for path in folder.glob(f"*.rank{rank}.pth")}
    for iteration in sorted(each for each in found if each <= newest)[:-KEPT]:
        manifest_file(folder, iteration).unlink(missing_ok=True)
        found[iteration].unlink(missing_ok=True)


class Termination:
    """Records a signal of `ENDING` instead of ending the process, so that a run can save before it ends.

    A second one of the same kind ends the process at once. Under torchrun, one that comes within `REPEAT_S`
    is the same request: SLURM may signal all processes of a job, and torchrun hands its own signal on to
    them. Only the main thread receives signals: in other threads, this records nothing.

    Attributes:
        came: the first of the signals, once one has come.
    """

    def __init__(self) -> None:
        self.came: Signals | None = None
        self._before: dict[int, Any] = {}
        self._noted: dict[int, float] = {}
        if threading.current_thread() is threading.main_thread():
            for each in ENDING:
                before = signal.signal(each, self._note)
                self._before[each] = signal.SIG_DFL if before is None else before

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.came = self.came or Signals(signum)
        now = time.monotonic()
        passed = now - self._noted.setdefault(signum, now)
        if "TORCHELASTIC_RUN_ID" in os.environ and passed < REPEAT_S:
            return
        signal.signal(signum, self._before.pop(signum))
        if passed > 0:
            signal.raise_signal(signum)

    def release(self) -> None:
        """Restore the former handlers of the signals."""
        while self._before:
            signal.signal(*self._before.popitem())
