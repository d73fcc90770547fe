"""Losses and metrics: checked by their arguments, then run once on noise."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from lmlt_arch.options.checks.constructors import (
    build_part,
    construct,
    name_mistakes,
    plain_text,
    type_mistakes,
    typed_section,
)
from lmlt_arch.options.checks.ownership import calls_are_known, converts_numbers, known_set
from lmlt_arch.options.checks.values import Bounds, argument_mistakes, is_number, out_of_bounds
from lmlt_arch.options.datasets import DATASETS, PAIRS
from lmlt_arch.options.looking import at, section, whole
from lmlt_arch.options.mistakes import Mistake, Place, nearest
from lmlt_arch.options.registries import (
    keywords,
    missing_arguments,
    needs_ground_truth,
    parameters_of,
    registered,
)

LOSSES = ("pixel_opt", "fft_opt", "perceptual_opt", "gan_opt")
# Its constructor reads a file of weights.
_NOT_BUILT = "PerceptualLoss"
_CRITERIA = ("l1", "l2", "fro")
_BOUNDS: Bounds = {
    **dict.fromkeys(("loss_weight", "perceptual_weight", "style_weight"), (0, 1e15)),
    "eps": (1e-45, 1e6),  # the least that is not 0 in single precision, where the gradient of a root is NaN
}
# Side of crops on which losses are tried at most, unless they fail.
_LARGE = 256
# What BasicSR gives to every metric.
_IMAGES = ("img", "img2")
# Its metrics fetch weights; models have them before they train.
_OF_PYIQA = "lmlt_arch.metrics.perceptual"
# Pixels at an edge that a metric leaves out.
_WIDEST = 4096
_trials: dict[Any, str | None] = {}
_KEPT = 16


def loss_mistakes(opt: Mapping[str, Any]) -> list[Mistake]:
    """Unknown losses and arguments, and losses that cannot be built or fail on noise."""
    known = registered("LOSS_REGISTRY") or {}
    found: list[Mistake] = []
    for name in LOSSES if known else ():
        given, place = typed_section(opt, name), ("train", name)
        wrong = name_mistakes(place, given, known) if given else []
        if given and not wrong:
            wrong = _loss_values(place, given, known[given["type"]])
        if given and not wrong and given["type"] != _NOT_BUILT:
            wrong = _tried_loss(opt, place, given, known)
        found += wrong
    return found


def _loss_values(place: Place, given: Mapping[str, Any], loss: Callable[..., Any]) -> list[Mistake]:
    found = [*argument_mistakes(place, given, loss)]
    found += [Mistake((*place, name), "is missing") for name in missing_arguments(loss, given)]
    if _is_known(loss):
        found += out_of_bounds(place, given, _BOUNDS)
    if given.get("reduction") == "none":
        found.append(Mistake((*place, "reduction"), "none leaves no number to train with: take mean or sum"))
    if given["type"] == _NOT_BUILT and not found:
        found += _perceptual_mistakes(place, given)
    return found


def _perceptual_mistakes(place: Place, given: Mapping[str, Any]) -> Iterator[Mistake]:
    """What the constructor of the perceptual loss, which is not built, or its first call would refuse."""
    vgg = import_module("basicsr.archs.vgg_arch")
    kind = given.get("vgg_type", "vgg19")
    plain = str(kind).removesuffix("_bn")
    if plain not in vgg.NAMES:
        yield Mistake((*place, "vgg_type"), f"unknown type {kind!r:.120}{nearest(kind, vgg.NAMES)}")
        return
    layers = given.get("layer_weights")
    if not isinstance(layers, Mapping) or not layers:
        yield Mistake((*place, "layer_weights"), "must hold layers and their weights, such as conv5_4: 1")
        return
    names = vgg.NAMES[plain] if plain == kind else vgg.insert_bn(vgg.NAMES[plain])
    for name, weight in layers.items():
        if name not in names:
            yield Mistake((*place, "layer_weights", name), f"unknown layer {name!r}{nearest(name, names)}")
        elif not is_number(weight) or weight < 0:
            wanted = "at least 0" if is_number(weight) else "a number"
            yield Mistake((*place, "layer_weights", name), f"must be {wanted}; got {weight!r:.120}")
    criterion = given.get("criterion", "l1")
    if criterion not in _CRITERIA:
        yield Mistake((*place, "criterion"), f"must be one of {', '.join(_CRITERIA)}; got {criterion!r:.120}")


def _tried_loss(
    opt: Mapping[str, Any], place: Place, given: Mapping[str, Any], known: Mapping[str, Any]
) -> list[Mistake]:
    """Mistakes found by building a loss, and by running it where the model's calls are known."""
    from lmlt_arch.options.checks.trials import loss_trial

    build = partial(construct, known, given)
    queries = at(opt, "train", "queries") is not None and converts_numbers(opt)
    if queries or not calls_are_known(opt, "optimize_parameters"):
        return build_part(place, build)[1]
    data = section(opt, "datasets", "train")
    side = whole(opt, "gt_size") or whole(data, "gt_size")
    # Crops that are not known, or large: what fails on a small one may work on theirs.
    sides = (side,) if side and side <= _LARGE else (64 if side is None else _LARGE, 2 * _LARGE)
    batch, channels = min(2, whole(data, "batch_size_per_gpu") or 2), 1 if data.get("color") == "y" else 3
    key = ("loss", known[given["type"]], repr(given), place, sides, batch, channels)
    trial = partial(loss_trial, build, str(place[-1]), sides=sides, batch=batch, channels=channels)
    return _once(key, place, trial)


def metric_mistakes(opt: Mapping[str, Any]) -> list[Mistake]:
    """Unknown metrics and arguments, and metrics that fail on noise."""
    known = registered("METRIC_REGISTRY") or {}
    found: list[Mistake] = []
    for name, given in section(opt, "val", "metrics").items() if known else ():
        if not isinstance(given, Mapping) or "type" not in given:
            continue
        place: Place = ("val", "metrics", name)
        wrong = type_mistakes(place, given["type"], known)
        found += (
            wrong
            or _metric_values(place, given, known[given["type"]])
            or _tried_metric(opt, place, given, known[given["type"]])
        )
    return found


def _metric_values(place: Place, given: Mapping[str, Any], metric: Callable[..., Any]) -> list[Mistake]:
    """What is wrong with the arguments of a metric, by its signature."""
    found = [*_metric_keys(place, given, metric), *argument_mistakes(place, given, metric)]
    missing = missing_arguments(metric, given, _IMAGES)
    # A misspelled name explains what is missing.
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
    """Keys that a metric does not take, or takes to drop them, where another was meant."""
    names = keywords(metric)
    # Those of BasicSR take any key and look at none but their own.
    drops = str(getattr(metric, "__module__", "")).startswith("basicsr.")
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    valid = [
        name for name, p in parameters_of(metric).items() if name not in _IMAGES and p.kind not in variable
    ]
    for key in given:
        if key in ("type", *valid):
            continue
        hint = nearest(key, [*valid, "type", "better"])
        if key == "better" and names is not None:
            text = f"{given['type']} takes no 'better', with which BasicSR calls it: give it **kwargs"
            yield Mistake((*place, key), text)
        elif names is not None or key in _IMAGES or (drops and key != "better" and "did you mean" in hint):
            yield Mistake((*place, key), f"unknown key {key!r}{hint}")


def _tried_metric(
    opt: Mapping[str, Any], place: Place, given: Mapping[str, Any], metric: Callable[..., Any]
) -> list[Mistake]:
    """Mistakes found by running a metric, where the model's calls are known."""
    from lmlt_arch.options.checks.trials import metric_trial

    home = str(getattr(metric, "__module__", ""))
    if home == _OF_PYIQA or not calls_are_known(opt, "nondist_validation"):
        return []
    sets = [data for phase, data in section(opt, "datasets").items() if phase != "train"]
    kinds = [DATASETS.get(known_set(data)) for data in sets]
    compared = not sets or any(kind is None or PAIRS[0] in kind.roots for kind in kinds)
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


def _once(key: Any, place: Place, trial: Callable[[], str | None]) -> list[Mistake]:
    """The result of a trial, kept, because models check the same options again."""
    if key not in _trials:
        text = trial()
        while len(_trials) >= _KEPT:
            del _trials[next(iter(_trials))]
        _trials[key] = text
    said = _trials[key]
    return [] if said is None else [Mistake(place, plain_text(said))]


def _is_known(part: object) -> bool:
    """Whether BasicSR or the plugin defines a part, so that it is known what its arguments mean."""
    return str(getattr(part, "__module__", "")).startswith(("basicsr.", "lmlt_arch."))
