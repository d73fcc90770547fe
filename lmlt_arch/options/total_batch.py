"""Images per step over all processes, compared with those that the recipe was published with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lmlt_arch.names import runs_ours
from lmlt_arch.options.looking import at, is_ours, section, whole
from lmlt_arch.options.mistakes import NOTE, Mistake

_PLACE = ("datasets", "train", "batch_size_per_gpu")
_TOTAL = ("train", "total_batch")
_PARTS = ("train", "accumulation_steps")


class Launch(NamedTuple):
    """How a training is started.

    Attributes:
        launched: whether by a launcher, `--launcher pytorch` or `slurm`.
        processes: how many of them there are.
    """

    launched: bool = False
    processes: int = 1

    def __str__(self) -> str:
        return f"a launcher starts {self.processes}" if self.launched else "one process, without a launcher"


class TotalBatch(NamedTuple):
    """Images of one step.

    Attributes:
        total: over all processes.
        processes: how many there are.
        at_once: the most that goes through the network of a process at once.
        recipe: what the recipe of the file was published with; None if the file does not give it.
        divided: whether the file gives the total, which the processes divide among themselves.
    """

    total: int
    processes: int
    at_once: int
    recipe: int | None = None
    divided: bool = False

    def share(self, rank: int = 0) -> int:
        """Images of a process; the first ones take what is left over."""
        return self.total // self.processes + (rank < self.total % self.processes)

    def parts(self, images: int) -> int:
        """In how many parts a process goes through its images, if the total is divided."""
        return -(-images // self.at_once)

    def __str__(self) -> str:
        many = "process" if self.processes == 1 else "processes"
        least, most = self.share(self.processes - 1), self.share()
        each = f"{most}" if least == most else f"{least} or {most}"
        text = f"batch: {each} per process x {self.processes} {many} = {self.total} in total"
        if self.divided and self.parts(most) > 1:
            text += f", each share in {self.parts(most)} parts"
        if self.recipe is None:
            return text
        return (
            f"{text}, as in the recipe"
            if self.total == self.recipe
            else f"{text}; the recipe has {self.recipe}"
        )


def launch_of(launcher: str, environment: Mapping[str, str]) -> Launch:
    """How this process was started.

    Args:
        launcher: the value of `--launcher`: none, pytorch or slurm.
        environment: variables in which launchers give the number of processes.
    """
    if launcher == "none":
        return Launch()
    count = environment.get("SLURM_NTASKS" if launcher == "slurm" else "WORLD_SIZE", "1")
    return Launch(launched=True, processes=max(1, int(count)) if count.isdecimal() else 1)


def known_launch(opt: Mapping[str, Any]) -> Launch:
    """How a training was started, if the options come from `parse_options`; else one process of its own."""
    processes = opt.get("world_size")
    return Launch(opt.get("dist") is True, processes if isinstance(processes, int) and processes > 0 else 1)


def total_batch(opt: Mapping[str, Any], launch: Launch) -> TotalBatch | None:
    """The batch that counts; None if the file names none.

    Our models divide `train: total_batch` among the processes, or that of the recipe, `lmlt: total_batch`.
    Otherwise each process takes `batch_size_per_gpu`. Without a launcher, BasicSR has one process, which has
    so many for each of its GPUs.

    Args:
        opt: the options as they stand in the file. In what `parse_options` returns, `num_gpu` is that of the
            machine, so that the recipe's batch is known from the keys for it only.
        launch: how the training is started.
    """
    each = whole(opt, *_PLACE)
    if each is None:
        return None
    at_once = each if launch.launched else each * max(1, gpus_of_process(opt))
    processes = launch.processes if launch.launched else 1
    recipe = _of_recipe(opt, each)
    given = whole(opt, *_TOTAL) or whole(opt, "lmlt", "total_batch")
    if given is not None and given >= 1 and (is_ours(opt) or runs_ours(opt)):
        return TotalBatch(given, processes, at_once, recipe, divided=True)
    return TotalBatch(at_once * processes, processes, at_once, recipe)


def batch_notes(opt: Mapping[str, Any], launch: Launch) -> Iterator[Mistake]:
    """A mistake if the batch in total cannot be divided; a note if it is not that of the recipe."""
    batch = total_batch(opt, launch)
    if batch is None:
        return
    if batch.total < batch.processes:
        place = _TOTAL if whole(opt, *_TOTAL) else ("lmlt", "total_batch")
        text = f"{batch.total} cannot be divided among {batch.processes} processes: start fewer"
        yield Mistake(place, text)
    if batch.divided and at(opt, *_PARTS) is not None:
        text = "follows from the batch in total and batch_size_per_gpu, the most that goes through at once"
        yield Mistake(_PARTS, f"{text}: remove it")
    if batch.recipe in (None, batch.total):
        return
    text = f"makes {batch.total} images a step in {_processes(batch)}, but the recipe has {batch.recipe}: "
    fixes = _fixes(batch, whole(opt, *_PLACE) or 1, ours=is_ours(opt))
    yield Mistake(_PLACE, text + fixes, NOTE)


def _fixes(batch: TotalBatch, each: int, *, ours: bool) -> str:
    assert batch.recipe is not None
    if batch.divided:
        return f"write train: total_batch: {batch.recipe}, or, if it is meant, remove lmlt: total_batch"
    fixes = []
    if ours:
        fixes.append(f"write train: total_batch: {batch.recipe}, which any number of processes divides")
    if batch.recipe % each == 0:
        count = batch.recipe // each
        fixes.append(f"start {count} by torchrun --nproc_per_node={count} ... --launcher pytorch")
    copies = batch.total // each
    if batch.recipe % copies == 0 and not ours:
        fixes.append(f"write batch_size_per_gpu: {batch.recipe // copies}")
    fixes.append(f"if it is meant, {'train' if ours else 'lmlt'}: total_batch: {batch.total}")
    return ", or ".join(fixes)


def _processes(batch: TotalBatch) -> str:
    return "one process" if batch.processes == 1 else f"{batch.processes} processes"


def _of_recipe(opt: Mapping[str, Any], each: int) -> int | None:
    given = whole(opt, "lmlt", "total_batch") or whole(opt, *_TOTAL)
    if given is not None or "world_size" in opt:
        return given
    # Official files name the GPUs of the machine for which their batch was chosen.
    gpus = opt.get("num_gpu")
    return each * gpus if isinstance(gpus, int) and not isinstance(gpus, bool) and gpus >= 1 else None


def gpus_of_process(opt: Mapping[str, Any]) -> int:
    """GPUs of one process without a launcher; none on a machine without GPUs."""
    import torch

    given = opt.get("num_gpu")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # What `parse_options` returns knows the machine.
    if given == "auto" or (not there and "dist" not in opt):
        return there
    return given if isinstance(given, int) and not isinstance(given, bool) else 0


def samples_of_epoch(opt: Mapping[str, Any], images: int) -> int:
    """Samples of an epoch, over all processes.

    Args:
        opt: the options.
        images: of the training dataset.
    """
    ratio = section(opt, "datasets", "train").get("dataset_enlarge_ratio", 1)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float):
        ratio = 1
    return math.ceil(images * ratio)
