"""The sections that name a `type`: checked by its constructor's arguments, by building it, by trying it."""

from __future__ import annotations

import copy
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from lmlt_arch.names import effective_model, holds_ours, registered_class
from lmlt_arch.options.checks.model_types import model_for
from lmlt_arch.options.checks.ownership import (
    calls_are_known,
    converts_numbers,
    has_stock_schedules,
    is_understood,
    known_set,
    stock_optimizers,
)
from lmlt_arch.options.checks.perceptual import perceptual_mistakes
from lmlt_arch.options.checks.values import Bounds, argument_mistakes, number_lists, out_of_bounds, too_many
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.looking import at, number, section, whole
from lmlt_arch.options.mistakes import Mistake, Place, nearest
from lmlt_arch.options.registries import (
    keywords,
    missing_arguments,
    needs_ground_truth,
    optimizers,
    parameters_of,
    registered,
    schedulers,
)

LOSSES = ("pixel_opt", "fft_opt", "perceptual_opt", "gan_opt")
# Its constructor reads a file of weights.
_NOT_BUILT = "PerceptualLoss"
_skeletons: dict[Any, Any] = {}
_trials: dict[Any, str | None] = {}
_KEPT = 16
# Parts that no option file can give.
_GIVEN = ("params", "optimizer", "last_epoch")
# More parameters than any network to upscale images has: it is not built, in vain, with memory.
_MOST_PARAMETERS = 2**33
_LOSS_BOUNDS: Bounds = {
    **dict.fromkeys(("loss_weight", "perceptual_weight", "style_weight"), (0, 1e15)),
    "eps": (1e-45, 1e6),  # the least that is not 0 in single precision, where the gradient of a root is NaN
}
_OPTIMIZER_BOUNDS: Bounds = {
    "lr": (0, 1e15),
    **dict.fromkeys(("eps", "weight_decay", "lr_decay", "initial_accumulator_value"), (0, 1e6)),
    **dict.fromkeys(("momentum", "dampening", "alpha", "rho", "momentum_decay", "lambd"), (0, 1)),
}
_SCHEDULE_BOUNDS: Bounds = dict.fromkeys(("gamma", "eta_min", "restart_weights"), (0, 1e6))
IMAGES = ("img", "img2")
"""What BasicSR gives to every measure."""
# Side of crops on which losses are tried at most, unless they fail.
_LARGE = 256
# Its measures fetch weights; models have them before they train.
_OF_PYIQA = "lmlt_arch.metrics.perceptual"
# Pixels at an edge that a measure leaves out.
_WIDEST = 4096


def part_mistakes(opt: Mapping[str, Any], *, is_train: bool) -> list[Mistake]:
    """Unknown types and arguments, and what constructors refuse."""
    import torch

    with torch.random.fork_rng(devices=[]):
        found = [*_network(opt, "network_g"), *_network(opt, "network_d"), *_metrics(opt), *_datasets(opt)]
        if is_train:
            found += _losses(opt) + _optimizers(opt)
    return found


def build(opt: Mapping[str, Any], name: str) -> Any:
    """A network of the options, as its constructor leaves it.

    Raises:
        Exception: what its constructor refuses.
    """
    given = section(opt, name)
    return _call(registered("ARCH_REGISTRY") or {}, with_numbers(given) if converts_numbers(opt) else given)


def build_on_meta(opt: Mapping[str, Any], name: str) -> Any:
    """The same without memory."""
    import torch

    with torch.device("meta"):
        return build(opt, name)


def _network(opt: Mapping[str, Any], name: str) -> list[Mistake]:
    given = section(opt, name)
    known = registered("ARCH_REGISTRY")
    if not given or known is None:
        return []
    found = _named((name,), given, known)
    if found:
        return found
    ours = holds_ours("ARCH_REGISTRY", given["type"])
    endless = [*too_many((name,), given)]
    if endless:
        return endless if ours else []
    built, refused = _built((name,), partial(_skeleton, opt, name))
    if refused and not ours:
        return []  # others may have reasons not to build without memory
    if refused:
        return refused
    count = sum(parameter.numel() for parameter in built.parameters())
    if count > _MOST_PARAMETERS:
        return [Mistake((name,), f"makes {count:,} parameters, must be at most {_MOST_PARAMETERS:,}")]
    if name != "network_g":
        return []
    return [*_frozen(opt, built), *_checkpointed(opt, built)]


def _skeleton(opt: Mapping[str, Any], name: str) -> Any:
    """A network without memory, which nobody changes: the last ones are kept, as models ask again."""
    given = section(opt, name)
    key = (registered_class("ARCH_REGISTRY", given["type"]), repr(given), converts_numbers(opt))
    if key not in _skeletons:
        built = build_on_meta(opt, name)
        while len(_skeletons) >= _KEPT:
            del _skeletons[next(iter(_skeletons))]
        _skeletons[key] = built
    return _skeletons[key]


def _frozen(opt: Mapping[str, Any], network: Any) -> list[Mistake]:
    names = [name for name, _ in network.named_parameters()]
    prefixes = at(opt, "train", "freeze")
    prefixes = [p for p in prefixes if isinstance(p, str)] if isinstance(prefixes, list) else []
    tops = sorted({name.split(".")[0] for name in names})
    below = {p: [name for name in names if name == p or name.startswith(f"{p}.")] for p in prefixes}
    place = ("train", "freeze")
    if {name for some in below.values() for name in some} == {*names}:
        return [Mistake(place, "leaves nothing of network_g to train")]
    return [
        Mistake(place, f"no parameter of network_g is called {prefix!r}{nearest(prefix, tops)}")
        for prefix, some in below.items()
        if not some
    ]


def _checkpointed(opt: Mapping[str, Any], network: Any) -> list[Mistake]:
    from lmlt_arch.archs.common.blocks import repeated_blocks

    try:
        if at(opt, "train", "checkpointing") is True:
            repeated_blocks(network)
    except ValueError as error:
        return [Mistake(("train", "checkpointing"), f"is not possible: {error}; leave it out")]
    return []


def _losses(opt: Mapping[str, Any]) -> list[Mistake]:
    known = registered("LOSS_REGISTRY") or {}
    found: list[Mistake] = []
    for name in LOSSES if known else ():
        given, place = _typed(opt, name), ("train", name)
        wrong = _named(place, given, known) if given else []
        if given and not wrong:
            wrong = _loss_values(place, given, known[given["type"]])
        if given and not wrong and given["type"] != _NOT_BUILT:
            wrong = _tried_loss(opt, place, given, known)
        found += wrong
    return found


def _tried_loss(
    opt: Mapping[str, Any], place: Place, given: Mapping[str, Any], known: Mapping[str, Any]
) -> list[Mistake]:
    """What building a loss, and running it where it is known how the model does, says of it."""
    from lmlt_arch.options.checks.trials import loss_trial

    build = partial(_call, known, given)
    queries = at(opt, "train", "queries") is not None and converts_numbers(opt)
    if queries or not calls_are_known(opt, "optimize_parameters"):
        return _built(place, build)[1]
    data = section(opt, "datasets", "train")
    side = whole(opt, "gt_size") or whole(data, "gt_size")
    # Crops that are not known, or large: what fails on a small one may work on theirs.
    sides = (side,) if side and side <= _LARGE else (64 if side is None else _LARGE, 2 * _LARGE)
    batch, channels = min(2, whole(data, "batch_size_per_gpu") or 2), 1 if data.get("color") == "y" else 3
    key = ("loss", known[given["type"]], repr(given), place, sides, batch, channels)
    trial = partial(loss_trial, build, str(place[-1]), sides=sides, batch=batch, channels=channels)
    return _once(key, place, trial)


def _once(key: Any, place: Place, trial: Callable[[], str | None]) -> list[Mistake]:
    """What a trial says, kept, as models ask again."""
    if key not in _trials:
        text = trial()
        while len(_trials) >= _KEPT:
            del _trials[next(iter(_trials))]
        _trials[key] = text
    said = _trials[key]
    return [] if said is None else [Mistake(place, _plain(said, place))]


def _loss_values(place: Place, given: Mapping[str, Any], loss: Callable[..., Any]) -> list[Mistake]:
    found = [*argument_mistakes(place, given, loss)]
    found += [Mistake((*place, name), "is missing") for name in missing_arguments(loss, given)]
    if _is_known(loss):
        found += out_of_bounds(place, given, _LOSS_BOUNDS)
    if given.get("reduction") == "none":
        found.append(Mistake((*place, "reduction"), "none leaves no number to train with: take mean or sum"))
    if given["type"] == _NOT_BUILT and not found:
        found += perceptual_mistakes(place, given)
    return found


def _is_known(part: object) -> bool:
    """Whether BasicSR or the plugin defines a part, so that it is known what its arguments mean."""
    return str(getattr(part, "__module__", "")).startswith(("basicsr.", "lmlt_arch."))


def _optimizers(opt: Mapping[str, Any]) -> list[Mistake]:
    import torch

    found: list[Mistake] = []
    optimizer: Any = None
    known = optimizers()
    stock = stock_optimizers(opt, known)
    judged = is_understood(opt) or stock is not None
    for name in ("optim_g", "optim_d") if judged else ():
        given, place = _typed(opt, name), ("train", name)
        if not given:
            continue
        wrong = _named(place, given, known)
        if not wrong and stock is not None and given["type"] not in stock:
            wrong = [_not_made(opt, place, given["type"], stock)]
        if "lr" not in given:
            wrong.append(Mistake((*place, "lr"), "is missing"))
        if not wrong:
            wrong += argument_mistakes(place, given, known[given["type"]])
            wrong += out_of_bounds(place, given, _OPTIMIZER_BOUNDS)
        if not wrong:
            # As networks have them: some optimizers are for matrices alone.
            weights = [torch.nn.Parameter(torch.zeros(2, 2, 3, 3)), torch.nn.Parameter(torch.zeros(2))]
            optimizer, wrong = _built(place, partial(_call, known, given, weights))
        found += wrong
    return found + _scheduler(opt, optimizer)


def _not_made(opt: Mapping[str, Any], place: Place, kind: str, stock: list[str]) -> Mistake:
    text = f"{kind} is not made by {effective_model(opt)} of this BasicSR, which knows {', '.join(stock)}"
    return Mistake((*place, "type"), f"{text}: take one of them, or model_type: {model_for(opt)}")


def _scheduler(opt: Mapping[str, Any], optimizer: Any) -> list[Mistake]:
    given, place = _typed(opt, "scheduler"), ("train", "scheduler")
    known = schedulers()
    if not given or known is None or not has_stock_schedules(opt):
        return []
    wrong = _named(place, given, known)
    if not wrong:
        wrong += number_lists(place, given, "milestones", "periods", "restarts", "restart_weights")
        single = {key: given[key] for key in ("gamma", "eta_min") if key in given}
        wrong += argument_mistakes(place, single, known[given["type"]])
        wrong += out_of_bounds(place, given, _SCHEDULE_BOUNDS)
    if not wrong and optimizer is not None:
        _, wrong = _built(place, partial(_call, known, given, optimizer))
    return wrong or _schedule(opt, given)


def _typed(opt: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of `train` that names a type; of models that nobody knows, only if it really does."""
    given = section(opt, "train", name)
    if not is_understood(opt):
        return given if isinstance(given.get("type"), str) else {}
    return with_numbers(given) if converts_numbers(opt) else given


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


def metric_mistakes(place: Place, given: Mapping[str, Any], metric: Callable[..., Any]) -> list[Mistake]:
    """What is wrong with the arguments of a measure, by its signature."""
    found = [*_metric_keys(place, given, metric), *argument_mistakes(place, given, metric)]
    missing = missing_arguments(metric, given, IMAGES)
    # A misspelt name explains what is missing.
    hinted = {m.text.rpartition("did you mean ")[2] for m in found}
    found += [Mistake((*place, name), "is missing") for name in missing if f"{name!r}?" not in hinted]
    if not _is_known(metric):
        return found
    border = given.get("crop_border", 0)
    if "crop_border" in parameters_of(metric) and (type(border) is not int or not 0 <= border <= _WIDEST):
        rule = "at least 0" if type(border) is not int or border < 0 else f"at most {_WIDEST}"
        found = [m for m in found if m.place != (*place, "crop_border")]
        text = f"must be a whole number of {rule}; got {border!r:.120}"
        found.append(Mistake((*place, "crop_border"), text))
    if given.get("input_order") == "CHW":
        found.append(Mistake((*place, "input_order"), "images are given as HWC: remove it"))
    return found


def _metric_keys(place: Place, given: Mapping[str, Any], metric: Callable[..., Any]) -> Iterator[Mistake]:
    """Keys that a measure does not take, or takes to drop them, where another was meant."""
    names = keywords(metric)
    # Those of BasicSR take any key and look at none but their own.
    drops = str(getattr(metric, "__module__", "")).startswith("basicsr.")
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    valid = [
        name for name, p in parameters_of(metric).items() if name not in IMAGES and p.kind not in variable
    ]
    for key in given:
        if key in ("type", *valid):
            continue
        hint = nearest(key, [*valid, "type", "better"])
        if key == "better" and names is not None:
            text = f"{given['type']} takes no 'better', with which BasicSR calls it: give it **kwargs"
            yield Mistake((*place, key), text)
        elif names is not None or key in IMAGES or (drops and key != "better" and "did you mean" in hint):
            yield Mistake((*place, key), f"unknown key {key!r}{hint}")


def _metrics(opt: Mapping[str, Any]) -> list[Mistake]:
    known = registered("METRIC_REGISTRY") or {}
    found: list[Mistake] = []
    for name, given in section(opt, "val", "metrics").items() if known else ():
        if not isinstance(given, Mapping) or "type" not in given:
            continue
        place: Place = ("val", "metrics", name)
        wrong = _of_type(place, given["type"], known)
        found += (
            wrong
            or metric_mistakes(place, given, known[given["type"]])
            or _tried_metric(opt, place, given, known[given["type"]])
        )
    return found


def _tried_metric(
    opt: Mapping[str, Any], place: Place, given: Mapping[str, Any], metric: Callable[..., Any]
) -> list[Mistake]:
    """What running a measure says of it, where it is known how the model does that."""
    from lmlt_arch.options.checks.trials import metric_trial

    home = str(getattr(metric, "__module__", ""))
    if home == _OF_PYIQA or not calls_are_known(opt, "nondist_validation"):
        return []
    sets = [data for phase, data in section(opt, "datasets").items() if phase != "train"]
    compared = not sets or any(known_set(data) != "SingleImageDataset" for data in sets)
    ours = converts_numbers(opt)
    if not compared and needs_ground_truth(metric):
        text = f"{given['type']} compares with ground truth, which these datasets do not have"
        return [] if ours else [Mistake(place, text)]  # our models leave it out
    arguments = {str(key): value for key, value in given.items() if key != "type"}
    trial = partial(
        metric_trial,
        metric,
        copy.deepcopy(arguments),
        compared=compared,
        finite=home.startswith("basicsr."),
        turned=ours,
    )
    return _once(("metric", metric, repr(given), compared, ours), place, trial)


def _datasets(opt: Mapping[str, Any]) -> list[Mistake]:
    known = registered("DATASET_REGISTRY")
    return [
        mistake
        for phase, given in section(opt, "datasets").items()
        if known is not None and isinstance(given, Mapping) and "type" in given
        for mistake in _of_type(("datasets", phase), given["type"], known)
    ]


def _of_type(place: Place, kind: object, known: Mapping[str, Any]) -> list[Mistake]:
    if not isinstance(kind, str):
        return [Mistake((*place, "type"), f"must be text; got {kind!r:.120}")]
    if kind in known:
        return []
    return [Mistake((*place, "type"), f"unknown type {kind!r:.120}{nearest(kind, known, likeness=0.75)}")]


def _named(place: Place, given: Mapping[str, Any], known: Mapping[str, Callable[..., Any]]) -> list[Mistake]:
    """An unknown type, or arguments that its constructor does not have."""
    if "type" not in given:
        return [Mistake((*place, "type"), "is missing", "missing")]
    wrong = _of_type(place, given["type"], known)
    names = None if wrong else keywords(known[given["type"]])
    if names is None:
        return wrong
    valid = [name for name in names if name not in _GIVEN]
    return [
        Mistake((*place, key), f"unknown key {key!r}{nearest(key, ['type', *valid])}")
        for key in given
        if key != "type" and key not in valid
    ]


def _call(known: Mapping[str, Callable[..., Any]], given: Mapping[str, Any], *first: Any) -> Any:
    arguments = {key: value for key, value in given.items() if key != "type"}
    return known[given["type"]](*first, **arguments)


def _built(place: Place, build: Callable[[], Any]) -> tuple[Any, list[Mistake]]:
    try:
        return build(), []
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return None, [Mistake(place, f"cannot be built: {_plain(text, place)}")]


def _plain(text: str, place: Iterable[object]) -> str:
    """A message without Python's names and addresses of things."""
    return (
        re.sub(r" at 0x[0-9a-f]+", "", text)
        .replace(".__init__()", "")
        .replace("keyword-only argument", "argument")
    )
