"""What an option file may leave out, training does without.

Each key of each file in `options/` is taken away in turn. What is left is either refused by the check, which
names the key, or it trains an iteration (or tests an image) through BasicSR's own pipeline.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.small.runs import Run, small

from lmlt_arch.data.listing import DatasetError
from lmlt_arch.options import option_mistakes
from lmlt_arch.options.mistakes import Place

pytestmark = pytest.mark.slow

# Arguments of networks have defaults of our own, which the networks' tests are about.
NOT_TAKEN = re.compile(r"network_[gd]:.*")


def places(part: Any, above: Place = ()) -> Iterator[Place]:
    """The places of all keys, those of sections before what is in them."""
    for key, value in part.items() if isinstance(part, dict) else ():
        yield (*above, key)
        yield from places(value, (*above, key))


def take_away(opt: dict[str, Any], place: Place) -> bool:
    """Remove a key; False if it is not there."""
    part: Any = opt
    for key in place[:-1]:
        part = part.get(key, {})
    return part.pop(place[-1], opt) is not opt


def cases(folder: Path) -> Iterator[tuple[str, Place, dict[str, Any]]]:
    """File, place and options: each place once for a kind of dataset, or else for a model."""
    seen = set()
    for file in sorted(folder.glob("*.yml")):
        opt = yaml.safe_load(file.read_text(encoding="utf-8"))
        opt["datasets"] = one_of_each(opt["datasets"])
        for place in places(opt):
            section = opt["datasets"][place[1]] if place[0] == "datasets" and len(place) > 1 else None
            whose = (opt["model_type"], "train" in opt)
            if section is not None:
                whose = (str(place[1]).split("_")[0], section["type"], section["io_backend"]["type"])
            case = (whose, place[2:] if section else place)
            if case not in seen and not NOT_TAKEN.match(":".join(map(str, place))):
                seen.add(case)
                yield file.stem, place, opt


def one_of_each(datasets: dict[str, Any]) -> dict[str, Any]:
    """Of many sets of one kind, which testing has, the first."""
    kinds = {(phase.split("_")[0], data["type"]): phase for phase, data in reversed(datasets.items())}
    return {phase: data for phase, data in datasets.items() if phase in kinds.values()}


@pytest.mark.filterwarnings("ignore")
def test_every_optional_key_can_be_left_out(repo_root: Path, data: Path, run: Run) -> None:
    ran, refused, failed = set(), set(), []
    for file, place, published in cases(repo_root / "options"):
        opt = small(copy.deepcopy(published), data)
        if not take_away(opt, place):
            continue
        if place == ("model_type",):  # nobody knows then whose model it would be
            assert any(mistake.place == place for mistake in option_mistakes(opt))
            continue
        try:
            training = "train" in published
            root = run("train" if training else "test", opt)
            assert not training or [*root.glob("experiments/*/models/net_g_latest.pth")]
            shutil.rmtree(root)
            ran.add(place)
        except SystemExit as refusal:
            refused.add(place)
            # The key is named, the section that is empty without it, or what is needed without it.
            if not any(str(key) in str(refusal) for key in (*place[-2:], "is missing")):
                failed.append(f"{file}: {place}: {refusal}")
        except DatasetError as error:  # an LMDB, whose kind of storage is not said any more
            assert "io_backend" in place
            assert "write io_backend: type: lmdb" in str(error)
        except Exception as error:
            failed.append(f"{file}: {place}: {error!r}")
    assert not failed, "\n".join(failed)
    assert len(ran) > 70
    assert len(refused) > 50
