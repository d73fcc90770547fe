"""Keys that are optional in the schema, but needed in this option file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from lmlt_arch.names import runs_ours
from lmlt_arch.options.checks.ownership import is_of_basicsr, known_set, model_class, source_of
from lmlt_arch.options.datasets import DATASETS
from lmlt_arch.options.degradation import Degradation, KernelKeys, RoundKeys
from lmlt_arch.options.looking import at, is_ours, model_family, section
from lmlt_arch.options.mistakes import Mistake, Place, mistakes_in
from lmlt_arch.options.sections import Dataset, Options

_SHARPENED = ("gt_usm", "l1_gt_usm", "percep_gt_usm", "gan_gt_usm")


def degradation_mistakes(opt: object) -> list[Mistake]:
    """Mistakes in the keys of the degradation, all of which are needed."""
    if not isinstance(opt, Mapping):
        return [Mistake((), "the option file must hold keys and values")]
    train: Place = ("datasets", "train")
    found = _needed(RoundKeys, opt, (), Options)
    if isinstance(at(opt, *train), Mapping):
        found += _needed(KernelKeys, section(opt, *train), train, Dataset)
    else:
        found.append(Mistake(train, "must hold keys and values, the kernels of the degradation among them"))
    for key, kinds in (("kernel_prob", "kernel_list"), ("kernel_prob2", "kernel_list2")):
        lengths = [
            len(v) if isinstance(v := at(opt, *train, k), list | tuple) else None for k in (key, kinds)
        ]
        if None not in lengths and lengths[0] != lengths[1]:
            text = f"needs {lengths[1]} numbers, one for each of {kinds}; got {lengths[0]}"
            found.append(Mistake((*train, key), text))
    extra = opt.get("degradation")
    found += _below(("degradation",), mistakes_in(Degradation, {} if extra is None else extra))
    return found


def needed_mistakes(opt: Mapping[str, Any], *, is_train: bool) -> list[Mistake]:
    """Keys that are missing for training or for testing."""
    needed: list[Place] = [("train",), ("logger",), ("datasets", "train")] if is_train else [("val",)]
    if is_train:
        needed += [("val", "val_freq")] if isinstance(opt.get("val"), Mapping) else []
        family = model_family(opt)
        if family.gan:
            needed += [("network_d",), ("train", "optim_d"), ("train", "gan_opt")]
        if family.synthesizes:
            needed += [("gt_size",)]
    # A user's class that derives from one of ours gets the same defaults.
    ours, synthesizes = is_ours(opt) or runs_ours(opt), model_family(opt).synthesizes
    if not ours and is_train and isinstance(opt.get("logger"), Mapping):
        needed += [("logger", "use_tb_logger")]
    for phase in section(opt, "datasets"):
        data, place = section(opt, "datasets", phase), ("datasets", phase)
        needed += _needed_of_set(data, place, ours=ours)
        kind = DATASETS.get(known_set(data))
        if kind and kind.makes_kernels and not synthesizes:
            needed += [(*place, key) for key in KernelKeys.model_fields]
    missing = [
        place
        for place in needed
        if at(opt, *place) is None and (len(place) == 1 or isinstance(at(opt, *place[:-1]), Mapping))
    ]
    found = [Mistake(place, "is missing", "missing") for place in missing]
    return found if ours else [*found, *_read_by_stock(opt, is_train=is_train)]


def _read_by_stock(opt: Mapping[str, Any], *, is_train: bool) -> Iterable[Mistake]:
    """Missing keys that BasicSR's models read without a default, by their code."""
    model = model_class(opt)
    if is_train and is_of_basicsr(opt):
        for key in _SHARPENED:
            if key not in opt and f"self.opt['{key}']" in source_of(model):
                yield Mistake((key,), "is missing", "missing")
    val = section(opt, "val")
    if not is_train and val.get("save_img") is True and "suffix" not in val:
        validation = getattr(model, "nondist_validation", None)
        if "self.opt['val']['suffix']" in source_of(validation):
            yield Mistake(("val", "suffix"), "is missing: write ~ for the name of the run", "missing")


def _needed_of_set(data: Mapping[str, Any], place: Place, *, ours: bool) -> Iterable[Place]:
    kind, train = DATASETS.get(known_set(data)), place[-1] == "train"
    keys: list[str] = [*kind.roots] if kind else []
    if kind and not kind.reads_hr_images:
        keys += ["io_backend"]
    if kind and kind.needs_list and at(data, "io_backend", "type") == "disk":
        keys += [kind.list_key]
    if train:
        keys += ["num_worker_per_gpu", "batch_size_per_gpu"]
        keys += ["gt_size"] if kind and kind.needs_crop else []
        # Ours are given those that a file leaves out; stock code reads them without a default.
        keys += ["use_hflip", "use_rot"] if kind and kind.needs_flips and not ours else []
    return [(*place, key) for key in keys]


def _needed(
    keys: type[RoundKeys] | type[KernelKeys], values: Mapping[str, Any], place: Place, whole: Any
) -> list[Mistake]:
    names = keys.model_fields
    given = {name: values[name] for name in names if values.get(name) is not None}
    unknown = [str(name) for name in values if name not in whole.model_fields]
    found = _below(place, mistakes_in(keys, given))
    for name in names:
        if name not in given:
            close = difflib.get_close_matches(name, unknown, n=1, cutoff=0.7)
            hint = f"; did you mean it by {close[0]!r}?" if close else ""
            found.append(Mistake((*place, name), f"is missing{hint}"))
    return found


def _below(place: Place, mistakes: list[Mistake]) -> list[Mistake]:
    return [mistake._replace(place=(*place, *mistake.place)) for mistake in mistakes]
