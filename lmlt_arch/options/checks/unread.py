"""Keys that no class reads: a mistake if the key asks for something that would not happen, else a note."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lmlt_arch.names import effective_model, patch_names, registered_class
from lmlt_arch.options.checks.model_types import model_for
from lmlt_arch.options.checks.ownership import (
    OF_LOADER,
    has_own_keys,
    is_of_basicsr,
    is_stock_sr_model,
    keys_are_known,
    known_set,
    mentions,
    model_class,
)
from lmlt_arch.options.datasets import DATASETS
from lmlt_arch.options.degradation import KernelKeys, RoundKeys
from lmlt_arch.options.looking import at, model_family, section
from lmlt_arch.options.mistakes import NOTE, Mistake, Place, nearest
from lmlt_arch.options.sections import Dataset, Files, Logger, Options, Val
from lmlt_arch.options.train import Train

_ASKS_FOR_GAN: tuple[Place, ...] = (("train", "gan_opt"), ("train", "gradient_penalty"))
_REST_OF_GAN: tuple[Place, ...] = (
    ("network_d",),
    ("train", "optim_d"),
    ("train", "net_d_iters"),
    ("train", "net_d_init_iters"),
    ("path", "pretrain_network_d"),
    ("l1_gt_usm",),
    ("percep_gt_usm",),
    ("gan_gt_usm",),
)
_ASKS_FOR_REAL: tuple[Place, ...] = (("degradation",), ("high_order_degradation",), ("gt_size",))
_REST_OF_REAL: tuple[Place, ...] = (("queue_size",), ("gt_usm",))
# Optional keys that only our models read.
_OF_OURS: tuple[tuple[Place, Any], ...] = (
    *(
        (("train", key), Train)
        for key in (
            "amp",
            "grad_clip",
            "total_batch",
            "accumulation_steps",
            "freeze",
            "checkpointing",
            "compile",
            "channels_last",
            "deterministic",
            "queries",
        )
    ),
    (("tile",), Options),
    (("path", "vgg"), Files),
    (("val", "degradation_seed"), Val),
    (("logger", "keep_checkpoints"), Logger),
    (("logger", "keep_best"), Logger),
)
# Of old files; training data are always shuffled.
_HARMLESS = ("use_shuffle", "io_backend", "damaged_images", "scale", "phase")


def unread(opt: Mapping[str, Any], *, is_train: bool) -> list[Mistake]:
    """Every key that is known, but not read by what the file asks for."""
    found = [*_patches(opt), *_of_sets(opt)]
    if has_own_keys(opt):
        name = effective_model(opt)
        found += [
            Mistake(("model_type",), f"the keys of {name} are its own: unknown ones are let through", NOTE)
        ]
    if keys_are_known(opt):
        found += [*_gan_and_real(opt), *_degradation(opt)]
    if is_of_basicsr(opt):
        found += _only_ours(opt)
    return [m for m in found if is_train or m.place[:1] != ("train",)]


def _gan_and_real(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    family, model = model_family(opt), model_class(opt)
    stock = is_stock_sr_model(opt)
    for asks, rest, reads, other in (
        (_ASKS_FOR_GAN, _REST_OF_GAN, family.gan, "ESCRealGANModel"),
        (_ASKS_FOR_REAL, _REST_OF_REAL, family.real, "ESCRealMSEModel"),
    ):
        for place in (*asks, *rest):
            if at(opt, *place) is None or reads or (reads is None and not stock):
                continue
            if not (stock and mentions(model, place[-1])):
                yield _not_read(opt, place, other, asked=place in asks and not _is_leftover(opt, place))


def _is_leftover(opt: Mapping[str, Any], place: Place) -> bool:
    value = at(opt, *place)
    if place == ("high_order_degradation",):
        return value is False
    return place == ("gt_size",) and value == at(opt, "datasets", "train", "gt_size")


def _not_read(opt: Mapping[str, Any], place: Place, other: str, *, asked: bool) -> Mistake:
    text = f"is not read by {effective_model(opt)}"
    if not asked:
        return Mistake(place, text, NOTE)
    text += f": remove it, or take model_type: {other}"
    if place == ("gt_size",):
        text += "; the crops of this model are datasets: train: gt_size"
    return Mistake(place, text)


def _degradation(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """The keys of the degradation where nothing is degraded, in one note for each place."""
    if model_family(opt).synthesizes:
        return
    train: Place = ("datasets", "train")
    places: list[tuple[Place, Mapping[str, Any], Iterable[str]]] = [((), opt, RoundKeys.model_fields)]
    kind = DATASETS.get(known_set(section(opt, *train)))
    if kind is None or not kind.makes_kernels:
        places.append((train, section(opt, *train), KernelKeys.model_fields))
    for place, given, keys in places:
        found = [key for key in keys if given.get(key) is not None]
        if found:
            more = f", nor are {len(found) - 1} more keys of the degradation" if len(found) > 1 else ""
            yield Mistake((*place, found[0]), f"is not read by {effective_model(opt)}{more}", NOTE)


def _only_ours(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Keys that only our models read, given to BasicSR's."""
    model, kind = model_class(opt), "" if is_stock_sr_model(opt) else NOTE
    places = [*_OF_OURS]
    places += [(("datasets", phase, "damaged_images"), Dataset) for phase in section(opt, "datasets")]
    for place, structure in places:
        value, key = at(opt, *place), str(place[-1])
        if value is None or value == structure.model_fields[key].default or mentions(model, key):
            continue
        fix = "" if kind else f": take model_type: {model_for(opt)}"
        yield Mistake(place, f"is not read by {effective_model(opt)}{fix}", kind)


def _of_sets(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Keys that other datasets read."""
    for phase, data in section(opt, "datasets").items():
        kind = known_set(data)
        found = registered_class("DATASET_REGISTRY", kind) if kind else None
        for key, field in Dataset.model_fields.items() if found else ():
            value = data.get(key)
            given = value is not None and value != field.default
            if not given or key in (*OF_LOADER, *_HARMLESS, *KernelKeys.model_fields) or mentions(found, key):
                continue
            if key == "color":
                yield Mistake(("datasets", phase, key), f"is not known to {kind}, which gives RGB: remove it")
            else:
                yield Mistake(("datasets", phase, key), f"is not read by {kind}", NOTE)


def _patches(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    given = at(opt, "lmlt", "mends")
    # Without the hook there are no names to compare with.
    for index, name in enumerate(given if isinstance(given, list) and patch_names else ()):
        if isinstance(name, str) and name not in patch_names:
            yield Mistake(("lmlt", "mends", index), f"there is no patch {name!r}{nearest(name, patch_names)}")
