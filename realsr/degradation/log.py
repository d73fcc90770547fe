"""Sampled parameters as text: one row of named values for each image, and a short caption of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmlt_arch.renamed import renamed_keyword
from realsr.degradation.kernels import PULSE, KernelSample
from realsr.degradation.sampling import DegradationSample, NoiseSample, ResizeSample, RoundSample

KERNEL_VALUES = ("sigma_x", "sigma_y", "rotation", "beta", "cutoff")

Row = dict[str, "str | int | float | bool"]


@renamed_keyword("draws", "sample")
def rows(sample: DegradationSample) -> list[Row]:
    """The parameters of each image, by stage and name (``blur1_sigma_x``); what is not used is empty."""
    return [_row(sample, index) for index in range(len(sample))]


def caption(row: Row) -> list[str]:
    """A row in a few short lines, in the order of the stages."""
    lines = []
    for number in (1, 2):
        lines += [
            f"blur{number} {_kernel_caption(row, f'blur{number}')}",
            f"resize{number} {row[f'resize{number}_direction']} x{row[f'resize{number}_factor']:.2f} "
            f"{row[f'resize{number}_mode']}",
            f"noise{number} {row[f'noise{number}_kind']} {row[f'noise{number}_strength']:.2f}"
            f"{' gray' if row[f'noise{number}_gray'] else ''}",
        ]
        if number == 1:
            lines.append(_codec_caption(row, 1))
    if row["camera_shot"] != "":
        lines.insert(1, f"camera shot {row['camera_shot']:.3f} read {row['camera_read']:.3f}")
    if row["halo_amount"] != "":
        lines.insert(-4, f"halo {row['halo_amount']:.1f} s{row['halo_sigma']:.1f}")
    jpeg = _codec_caption(row, 2)
    finish = f"last {row['last_resize_mode']}, sinc {_kernel_caption(row, 'sinc')}"
    return [*lines, *((finish, jpeg) if row["sinc_first"] else (jpeg, finish))]


def _row(sample: DegradationSample, index: int) -> Row:
    return {
        **_round(sample.first, "1", index),
        **_round(sample.second, "2", index),
        **_kernel(sample.sinc, "sinc", index, values=("cutoff",)),
        "sinc_first": sample.sinc_first,
        "last_resize_mode": sample.last_mode,
        **_extras(sample, index),
    }


def _extras(sample: DegradationSample, index: int) -> Row:
    row: Row = dict.fromkeys(("camera_shot", "camera_read", "halo_amount", "halo_sigma"), "")
    camera, halo = sample.camera, sample.halo
    if camera and camera.shot[index] + camera.read[index] > 0:
        row |= {"camera_shot": float(camera.shot[index]), "camera_read": float(camera.read[index])}
    if halo and halo.amount[index] > 0:
        row |= {"halo_amount": float(halo.amount[index]), "halo_sigma": float(halo.kernel.sigma_x[index])}
    return row


def _round(sample: RoundSample, number: str, index: int) -> Row:
    blur = _kernel(sample.kernel, f"blur{number}", index)
    if not sample.blurred:
        blur = {key: PULSE if key.endswith("_kind") else "" for key in blur}
    return {
        **blur,
        **_resize(sample.resize, number),
        **_noise(sample.noise, number, index),
        f"jpeg{number}_codec": sample.codec,
        f"jpeg{number}_subsampling": sample.subsampling if sample.codec == "jpeg" else "",
        f"jpeg{number}_quality": float(sample.quality[index]),
    }


def _kernel(sample: KernelSample, name: str, index: int, *, values: Sequence[str] = KERNEL_VALUES) -> Row:
    row: Row = {f"{name}_kind": sample.kinds[index], f"{name}_size": int(sample.size[index])}
    for value in values:
        number = float(getattr(sample, value)[index])
        row[f"{name}_{value}"] = "" if math.isnan(number) else number
    return row


def _resize(sample: ResizeSample, number: str) -> Row:
    return {
        f"resize{number}_direction": sample.direction,
        f"resize{number}_factor": sample.factor,
        f"resize{number}_mode": sample.mode,
    }


def _noise(sample: NoiseSample, number: str, index: int) -> Row:
    return {
        f"noise{number}_kind": sample.kind,
        f"noise{number}_strength": float(sample.strength[index]),
        f"noise{number}_gray": bool(sample.gray[index]),
        f"noise{number}_seed": sample.seed,
    }


def _codec_caption(row: Row, number: int) -> str:
    subsampling = row[f"jpeg{number}_subsampling"]
    text = f"{row[f'jpeg{number}_codec']}{number} quality {row[f'jpeg{number}_quality']:.0f}"
    return text if subsampling in ("", "4:2:0") else f"{text} {subsampling}"


def _kernel_caption(row: Row, name: str) -> str:
    kind = row[f"{name}_kind"]
    if kind == PULSE:
        return PULSE
    signs = {"sigma_x": " s", "sigma_y": "/", "beta": " b", "cutoff": " cutoff "}
    values = {sign: row.get(f"{name}_{value}", "") for value, sign in signs.items()}
    texts = [f"{sign}{value:.1f}" for sign, value in values.items() if value != ""]
    kind = "" if name == "sinc" else f"{kind} "
    return f"{kind}{row[f'{name}_size']}{''.join(texts)}"
