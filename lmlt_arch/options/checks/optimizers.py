"""Optimizers and schedules of the learning rate: checked by their arguments, then built."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

from lmlt_arch.names import effective_model
from lmlt_arch.options.checks.constructors import build_part, construct, name_mistakes, typed_section
from lmlt_arch.options.checks.model_types import model_for
from lmlt_arch.options.checks.ownership import has_stock_schedules, is_understood, stock_optimizers
from lmlt_arch.options.checks.values import Bounds, argument_mistakes, number_lists, out_of_bounds
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.looking import number
from lmlt_arch.options.mistakes import Mistake, Place
from lmlt_arch.options.registries import optimizers, schedulers

_BOUNDS: Bounds = {
    "lr": (0, 1e15),
    **dict.fromkeys(("eps", "weight_decay", "lr_decay", "initial_accumulator_value"), (0, 1e6)),
    **dict.fromkeys(("momentum", "dampening", "alpha", "rho", "momentum_decay", "lambd"), (0, 1)),
}
_SCHEDULE_BOUNDS: Bounds = dict.fromkeys(("gamma", "eta_min", "restart_weights"), (0, 1e6))


def optimizer_mistakes(opt: Mapping[str, Any]) -> list[Mistake]:
    """Unknown optimizers and schedules, and arguments that they refuse."""
    import torch

    found: list[Mistake] = []
    optimizer: Any = None
    known = optimizers()
    stock = stock_optimizers(opt, known)
    judged = is_understood(opt) or stock is not None
    for name in ("optim_g", "optim_d") if judged else ():
        given, place = typed_section(opt, name), ("train", name)
        if not given:
            continue
        wrong = name_mistakes(place, given, known)
        if not wrong and stock is not None and given["type"] not in stock:
            wrong = [_not_made(opt, place, given["type"], stock)]
        if "lr" not in given:
            wrong.append(Mistake((*place, "lr"), "is missing"))
        if not wrong:
            wrong += argument_mistakes(place, given, known[given["type"]])
            wrong += out_of_bounds(place, given, _BOUNDS)
        if not wrong:
            # As networks have them: some optimizers are for matrices alone.
            weights = [torch.nn.Parameter(torch.zeros(2, 2, 3, 3)), torch.nn.Parameter(torch.zeros(2))]
            optimizer, wrong = build_part(place, partial(construct, known, given, weights))
        found += wrong
    return found + _scheduler(opt, optimizer)


def _not_made(opt: Mapping[str, Any], place: Place, kind: str, stock: list[str]) -> Mistake:
    text = f"{kind} is not made by {effective_model(opt)} of this BasicSR, which knows {', '.join(stock)}"
    return Mistake((*place, "type"), f"{text}: take one of them, or model_type: {model_for(opt)}")


def _scheduler(opt: Mapping[str, Any], optimizer: Any) -> list[Mistake]:
    given, place = typed_section(opt, "scheduler"), ("train", "scheduler")
    known = schedulers()
    if not given or known is None or not has_stock_schedules(opt):
        return []
    wrong = name_mistakes(place, given, known)
    if not wrong:
        wrong += number_lists(place, given, "milestones", "periods", "restarts", "restart_weights")
        single = {key: given[key] for key in ("gamma", "eta_min") if key in given}
        wrong += argument_mistakes(place, single, known[given["type"]])
        wrong += out_of_bounds(place, given, _SCHEDULE_BOUNDS)
    if not wrong and optimizer is not None:
        _, wrong = build_part(place, partial(construct, known, given, optimizer))
    return wrong or _schedule(opt, given)


def _schedule(opt: Mapping[str, Any], given: Mapping[str, Any]) -> list[Mistake]:
    place: Place = ("train", "scheduler")
    total = number(opt, "train", "total_iter")
    steps = with_numbers(given.get("milestones"))
    if isinstance(steps, list) and any(b <= a for a, b in itertools.pairwise(steps)):
        return [Mistake((*place, "milestones"), f"must increase from one to the next; got {steps}")]
    if isinstance(steps, list) and any(step % 1 for step in steps):
        return [Mistake((*place, "milestones"), f"must be whole numbers, of iterations; got {steps}")]
    periods = with_numbers(given.get("periods"))
    if isinstance(periods, list) and total and sum(periods) < total:
        text = f"add up to {sum(periods)}, but total_iter is {total}: they must last until the end"
        return [Mistake((*place, "periods"), text)]
    return []
