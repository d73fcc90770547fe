"""Results of a benchmark as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmlt_arch.archs import PRESETS
from lmlt_arch.evaluation.benchmark.published import Published, published_figures
from lmlt_arch.evaluation.benchmark.run import METRICS, Result, Row
from lmlt_arch.evaluation.markdown import cell, table
from lmlt_arch.spreadsheets import as_text

MEAN = "(mean)"


def to_markdown(results: Sequence[Result], environment: Mapping[str, str]) -> str:
    """A table of means and one of images for each dataset and scale."""
    sources: list[str] = []
    parts = [part for result in results for part in _section(result, sources)]
    notes = [
        "PSNR in dB and SSIM on the Y channel, a border of as many pixels as the scale left out, of results "
        "rounded to 8 bits: as BasicSR computes them. Other metrics see the whole image in color.",
        *(f"[{number}] {source}" for number, source in enumerate(sources, 1)),
        "; ".join(f"{name}: {value}" for name, value in environment.items()),
    ]
    return "\n".join([*parts, *(f"{note}\n" for note in notes)])


def to_csv(results: Sequence[Result]) -> str:
    """A line for each image and network, and one for each mean."""
    metrics = [*results[0].rows[0].mean]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["data", "scale", "network", "image", *metrics])
    for result in results:
        for row in result.rows:
            names = [item.name for item in result.data.items]
            for name, values in zip([*names, MEAN], [*row.images, row.mean], strict=True):
                data, network, image = map(as_text, (result.data.name, row.name, name))
                start = [data, result.data.scale, network, image]
                writer.writerow([*start, *(f"{values[metric]:.6f}" for metric in metrics)])
    return buffer.getvalue()


def to_json(results: Sequence[Result], environment: Mapping[str, str]) -> str:
    """Everything; an infinite PSNR, that of equal images, is null."""
    content = {
        "environment": dict(environment),
        "results": [_entry(result, row) for result in results for row in result.rows],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _section(result: Result, sources: list[str]) -> Iterator[str]:
    data = result.data
    origin = "LR of the dataset" if data.lq_given else "LR made by bicubic downsampling as in MATLAB"
    yield f"## {cell(data.name)} x{data.scale} (images: {len(data.items)}; {origin})\n"
    published = {row.name: _published(result, row) for row in result.rows}
    known = any(published.values())
    heads = ["network", "parameters", *(METRICS[name].title for name in result.rows[0].mean)]
    lines = []
    for row in result.rows:
        figures = published[row.name]
        line = [_title(row), _parameters(row), *(_number(*value) for value in row.mean.items())]
        lines.append([*line, *([_with_source(figures, sources)] if known else [])])
    yield table([*heads, *(["reference PSNR / SSIM"] if known else [])], lines)
    measures = " / ".join(METRICS[name].title.split()[0] for name in result.rows[0].mean)
    yield table(
        [f"{measures} of", *(row.name for row in result.rows)],
        [
            [
                item.name,
                *(" / ".join(_number(*value) for value in row.images[i].items()) for row in result.rows),
            ]
            for i, item in enumerate(data.items)
        ],
    )


def _entry(result: Result, row: Row) -> dict[str, Any]:
    published = _published(result, row)
    model = row.model
    return {
        "data": result.data.name,
        "scale": result.data.scale,
        "lq": "given" if result.data.lq_given else "made",
        "network": row.name,
        "file": None if model is None else str(model.path),
        "preset": None if model is None else model.preset,
        "parameters": None if model is None else model.parameters,
        "mean": _finite(row.mean),
        "images": {
            item.name: _finite(values) for item, values in zip(result.data.items, row.images, strict=True)
        },
        "published": None if published is None else published._asdict(),
    }


def _published(result: Result, row: Row) -> Published | None:
    preset = None if row.model is None else row.model.preset
    return published_figures(preset, result.data.scale, result.data.name)


def _title(row: Row) -> str:
    preset = None if row.model is None else row.model.preset
    return row.name if preset is None else f"{row.name} ({PRESETS[preset].title})"


def _parameters(row: Row) -> str:
    return "" if row.model is None else f"{row.model.parameters / 1000:,.0f} K"


def _number(metric: str, value: float) -> str:
    return f"{value:.{METRICS[metric].digits}f}"


def _with_source(figures: Published | None, sources: list[str]) -> str:
    if figures is None:
        return ""
    if figures.source not in sources:
        sources.append(figures.source)
    number = sources.index(figures.source) + 1
    return f"{_number('psnr', figures.psnr)} / {_number('ssim', figures.ssim)} [{number}]"


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
