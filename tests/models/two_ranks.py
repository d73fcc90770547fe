"""Trains a tiny model on this process's share of a batch; test_parallel.py runs it in several.

two_ranks.py OPTIONS BATCH OUT: OPTIONS is a JSON file, BATCH a file of torch.save, OUT a folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from lmlt_arch.hook.finder import install

install()

from basicsr.models import build_model  # noqa: E402
from torch.distributed import GradBucket  # noqa: E402
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from lmlt_arch.models.agreement import DisagreementError  # noqa: E402


def main(options: str, batch_file: str, out: str) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    batches = torch.load(batch_file)
    torch.set_default_dtype(batches[0]["lq"].dtype)
    if world > 1:
        torch.distributed.init_process_group("gloo")
    opt = json.loads(Path(options).read_text())
    apart, saves, disturbed_at = (opt.pop(name, None) for name in ("apart", "saves", "disturbed_at"))
    opt.update(rank=rank, world_size=world, dist=world > 1)
    torch.manual_seed(rank)  # DDP must make the ranks start alike
    if world == 1:
        torch.manual_seed(0)
    model = build_model(opt)
    exchanges = 0
    if isinstance(model.net_g, DistributedDataParallel):

        def counting(state: object, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
            nonlocal exchanges
            exchanges += 1
            return allreduce_hook(None, bucket)

        # PyTorch wants the class in the annotation, not its name.
        counting.__annotations__ = {"bucket": GradBucket, "return": torch.futures.Future[torch.Tensor]}
        model.net_g.register_comm_hook(None, counting)
    failure = ""
    try:
        for iteration, batch in enumerate(batches, 1):
            if iteration == disturbed_at and rank == 1:
                with torch.no_grad():
                    next(model.net_g.parameters()).mul_(1 + 1e-9)
            model.update_learning_rate(iteration + (rank if apart else 0))
            model.feed_data({key: value[rank::world] for key, value in batch.items()})
            model.optimize_parameters(iteration)
            if saves:
                model.save(0, iteration)
        log = dict(model.get_current_log())
    except (FloatingPointError, DisagreementError) as error:
        failure = str(error)
    net = model.get_bare_model(model.net_g)
    result = {
        "params": net.state_dict(),
        "params_ema": model.net_g_ema.state_dict(),
        "log": {} if failure else log,
        "exchanges": exchanges,
        "failure": failure,
    }
    torch.save(result, Path(out) / f"rank{rank}_of_{world}.pth")
    if world > 1:
        torch.distributed.barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # Without tearing down: now and then PyTorch waits for ever for a thread of gloo, which waits for the GIL.
    os._exit(0)
