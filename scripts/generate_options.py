"""Write `options/{train,finetune,test}_*.yml` from a table and the templates in `scripts/options/`.

python scripts/generate_options.py           write the files
python scripts/generate_options.py --check   exit with 1 if a file differs from what would be written

A template is YAML as it stands, comments included, with three additions:

    name: $name                    a value by its key (`string.Template`); a mapping becomes a block below its
                                   key; a line whose value is None is left out
    # include: NAME                the lines of `scripts/options/parts/NAME.yml`, indented like this line
    # include: NAME, for each of KEY
                                   the same once for each entry of the list KEY, with the values of the entry
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from lmlt_arch.archs.presets import PRESETS

OPTIONS = Path(__file__).resolve().parents[1] / "options"
TEMPLATES = Path(__file__).resolve().parent / "options"
FOR_EDITORS = "# yaml-language-server: $schema=schema.json\n"

INCLUDE = re.compile(r"(?P<indent> *)# include: (?P<part>\w+)(, for each of (?P<list>\w+))?\n")
BLOCK = re.compile(r"(?P<indent> *)(?P<key>\w+): \$(?P<name>\w+)\n")

BENCHMARKS = ("Set5", "Set14", "B100", "Urban100", "Manga109")
# The scale in a dataset's name, and as the option file has it. To x4 it is seen in training.
SCALES = {str(scale): str(scale) for scale in (2, 3, 4, 6, 8, 12)}
ODD_SCALES = {"2.7": "2.7", "1.5_3.5": "[1.5, 3.5]  # vertical, horizontal"}

Values = Mapping[str, Any]


def _at_scales(benchmark: str, scales: Mapping[str, str]) -> list[Values]:
    return [{"benchmark": benchmark, "label": label, "at_scale": at} for label, at in scales.items()]


@dataclass(frozen=True)
class Family:
    """Networks whose option files have the same templates.

    Attributes:
        files: template by file name, without `.yml`; `{model}` and `{scale}` in the file name are filled in.
        validated: values of each benchmark that training validates on.
        tested: values of each benchmark that testing measures.
        values: what else the templates name, the same for every network of the family.
        starts_from_x2: training of the other scales starts from the network of x2.
    """

    files: Mapping[str, str]
    validated: Sequence[Values] = ()
    tested: Sequence[Values] = ()
    values: Values = field(default_factory=dict)
    starts_from_x2: bool = False


@dataclass(frozen=True)
class Row:
    """A network, and what differs from the others of its family.

    Attributes:
        model: the network in file names.
        preset: key of `PRESETS`: title, scales and `network_g`.
        family: its templates.
        values: what else the templates name.
    """

    model: str
    preset: str
    family: Family
    values: Values = field(default_factory=dict)


VALIDATED = [{"benchmark": BENCHMARKS[0]}]
TESTED = [{"benchmark": name} for name in BENCHMARKS]
LMLT = Family(
    {"train_{model}_x{scale}": "train_lmlt", "test_{model}_x{scale}": "test"},
    VALIDATED,
    TESTED,
    values={"model_type": "LMLTModel", "seed": 10, "tested_key": "params"},
)
ESC = Family(
    {"train_{model}_x{scale}": "train_esc", "test_{model}_x{scale}": "test"},
    VALIDATED,
    TESTED,
    values={"model_type": "ESCModel", "seed": 0, "tested_key": "params_ema"},
    starts_from_x2=True,
)
REAL = Family(
    {
        "train_{model}_MSE_x{scale}": "train_real_mse",
        "train_{model}_GAN_x{scale}": "train_real_gan",
        "test_{model}_x{scale}": "test_real",
    }
)
FINE_TUNED = Family(
    {
        **REAL.files,
        "finetune_{model}_x{scale}": "finetune_photos",
        "finetune_{model}_paired_x{scale}": "finetune_pairs",
    }
)
ANY_SCALE = Family(
    {"train_{model}": "train_any_scale", "test_{model}": "test_any_scale"},
    validated=_at_scales(BENCHMARKS[0], SCALES),
    tested=[values for name in BENCHMARKS for values in _at_scales(name, SCALES | ODD_SCALES)],
)

DIV2K = {"data": "DIV2K", "train_set": "train_pairs", "note": "as published"}
DF2K = {**DIV2K, "data": "DF2K"}
DFLIP = {**DIV2K, "data": "DFLIP", "train_set": "train_downsampled"}

TABLE = (
    Row("LMLT_tiny", "LMLT_tiny", LMLT, DF2K),
    Row("LMLT", "LMLT", LMLT, DF2K),
    Row("LMLT_large", "LMLT_large", LMLT, DF2K),
    Row("ESC", "ESC", ESC, DIV2K),
    Row("ESC_light", "ESC_light", ESC, DIV2K),
    Row("ESC_FP", "ESC_FP", ESC, DIV2K),
    # Its weights are published, its training options are not.
    Row("ESC_XL", "ESC_XL", ESC, {**DF2K, "note": "with the recipe of ESC"}),
    Row("ESC_DFLIP", "ESC", ESC, DFLIP),
    # The only network for real photographs with published weights.
    Row("ESCReal", "ESC_Real", FINE_TUNED),
    Row("ESCRealM", "ESC_Real_M", REAL),
    Row("ESC_LTE", "ESC_LTE", ANY_SCALE),
)


def option_files() -> dict[str, str]:
    """Name and content of every option file."""
    files = {}
    for row in TABLE:
        for scale in PRESETS[row.preset].scales:
            for pattern, template in row.family.files.items():
                name = pattern.format(model=row.model, scale=scale)
                values = {**_values(row, scale), "name": name, "test_sets": _test_sets(row.family, template)}
                files[f"{name}.yml"] = FOR_EDITORS + "".join(filled(template, values))
    return files


def _values(row: Row, scale: int) -> dict[str, Any]:
    """What the templates name, by key."""
    preset = PRESETS[row.preset]
    x2_network = f"train_{row.model}_x2" if row.family.starts_from_x2 and scale != 2 else None
    return {
        "title": preset.title,
        "model": row.model,
        "scale": scale,
        "network": {"type": preset.arch, **preset.kwargs, "upscaling_factor": scale},
        "gt_size": 64 * scale,
        "x2_network": x2_network,
        "start": "start_from_x2" if x2_network else "start_fresh",
        **row.family.values,
        **row.values,
    }


def _test_sets(family: Family, template: str) -> list[Values]:
    """Values of each benchmark of a template, with the name of its section: `val`, `val_1`, `test_1`."""
    phase, sets = ("test", family.tested) if template.startswith("test") else ("val", family.validated)
    if phase == "val" and len(sets) == 1:
        return [{"phase": phase, **sets[0]}]
    return [{"phase": f"{phase}_{number}", **values} for number, values in enumerate(sets, 1)]


def filled(template: str, values: Values) -> Iterator[str]:
    """Lines of a template with its values.

    Args:
        template: name of a file in `scripts/options/`, without `.yml`.
        values: by the keys that the template and its parts name.

    Raises:
        KeyError: a value is missing.
    """
    for line in (TEMPLATES / f"{template}.yml").read_text(encoding="utf-8").splitlines(keepends=True):
        names = [match["named"] or match["braced"] for match in Template.pattern.finditer(line)]
        if any(values[name] is None for name in names):
            continue
        block = BLOCK.fullmatch(line)
        if block and isinstance(values[block["name"]], Mapping):
            yield f"{block['indent']}{block['key']}:\n"
            for key, value in values[block["name"]].items():
                yield f"{block['indent']}  {key}: {_scalar(value)}\n"
            continue
        line = Template(line).substitute(values)
        include = INCLUDE.fullmatch(line)
        if include:
            yield from _included(include, values)
        else:
            yield line


def _included(include: re.Match[str], values: Values) -> Iterator[str]:
    """Lines of a part, once for each entry of the list where there is one, with a blank line between."""
    for number, entry in enumerate(values[include["list"]] if include["list"] else [{}]):
        if number:
            yield "\n"
        for line in filled(f"parts/{include['part']}", {**values, **entry}):
            yield include["indent"] + line if line.strip() else line


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a file differs")
    check = parser.parse_args().check
    wanted = option_files()
    present = {
        path.name: path.read_text(encoding="utf-8")
        for pattern in ("train_*.yml", "finetune_*.yml", "test_*.yml")
        for path in OPTIONS.glob(pattern)
    }
    differing = sorted(
        name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name)
    )
    if check:
        for name in differing:
            print(f"options/{name} is not what scripts/generate_options.py writes; run it", file=sys.stderr)
        return 1 if differing else 0
    OPTIONS.mkdir(exist_ok=True)
    for name in differing:
        if name in wanted:
            (OPTIONS / name).write_text(wanted[name], encoding="utf-8")
        else:
            (OPTIONS / name).unlink()
    print(f"{len(wanted)} option files, {len(differing)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
