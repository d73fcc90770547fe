"""The table of datasets against the registered names, the exports and BasicSR's own modules."""

from __future__ import annotations

from importlib import import_module

import pytest

from lmlt_arch.names import PROVIDED
from lmlt_arch.options.datasets import DATASETS, PAIRS, RAW_SET
from lmlt_arch.options.sections import Dataset

OURS = PROVIDED["DATASET_REGISTRY"]


def test_every_registered_dataset_is_in_the_table() -> None:
    assert sorted(OURS) == sorted(name for name, kind in DATASETS.items() if kind.is_ours)
    assert RAW_SET in OURS


@pytest.mark.parametrize("name", DATASETS)
def test_the_class_is_where_the_table_says(name: str) -> None:
    home = DATASETS[name].home or OURS[name]
    found = getattr(import_module(home), name)
    assert DATASETS[name].is_ours or found.__module__ == home


@pytest.mark.parametrize("name", DATASETS)
def test_what_the_table_says_fits_together(name: str) -> None:
    kind = DATASETS[name]
    assert kind.roots and set(kind.roots) <= set(PAIRS)
    assert not (kind.is_paired and kind.lacks)
    assert not ((kind.lists_both or kind.needs_list) and not kind.list_key)
    assert {*kind.roots, *([kind.list_key] if kind.list_key else [])} <= set(Dataset.model_fields)


def test_the_schema_says_which_take_several_roots() -> None:
    names = [name for name, kind in DATASETS.items() if kind.reads_hr_images]
    description = str(Dataset.model_fields["dataroot_gt"].description)
    assert all(f"{name.removesuffix('Dataset').removesuffix('Image')}-" in description for name in names)
