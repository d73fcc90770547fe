"""Results of a profile as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.markdown import table
from lmlt_arch.evaluation.profile.run import Row, Setting

_MIB = 1 << 20


def check_baseline(rows: Sequence[Row], baseline: str | None) -> None:
    """Refuse a baseline that is none of the networks.

    Raises:
        UsageError: it names them.
    """
    names = list(dict.fromkeys(row.source.name for row in rows))
    if baseline is not None and baseline not in names:
        raise UsageError(f"--baseline {baseline} is none of the networks {', '.join(names)}")


def to_markdown(
    rows: Sequence[Row], setting: Setting, baseline: str | None, environment: Mapping[str, str]
) -> str:
    """One table, and notes on its columns."""
    ratios = [f"latency / {baseline}", f"memory / {baseline}"] if baseline else []
    heads = ["network", "scale", "dtype", "attention", "batch", "parameters", "multiply-adds", "activations"]
    heads += ["latency ms", "quartiles ms", "memory MiB", *ratios]
    memory = "weights, input, output and all between"
    if setting.device.type == "cpu":
        memory += ", as the resident memory of a process above idle, which varies by some percent"
    notes = [
        f"Output of {setting.width}x{setting.height} pixels. Multiply-adds are those of convolutions, linear "
        "layers and attention, activations the outputs of convolutions and linear layers, for an image.",
        f"Latency is of a whole batch: median and quartiles of {setting.repeats} runs after "
        f"{setting.warm_up} to warm up; in each round every network ran once.",
        f"Memory is the peak of {memory}.",
        "; ".join(f"{name}: {value}" for name, value in environment.items()),
    ]
    lines = [_line(row, _of_baseline(rows, row, baseline), bool(baseline)) for row in rows]
    return "\n".join([table(heads, lines), *(f"{note}\n" for note in notes)])


def to_json(
    rows: Sequence[Row], setting: Setting, baseline: str | None, environment: Mapping[str, str]
) -> str:
    """Everything, each timed run included."""
    content = {
        "environment": dict(environment),
        "width": setting.width,
        "height": setting.height,
        "repeats": setting.repeats,
        "warm_up": setting.warm_up,
        "baseline": baseline,
        "rows": [_entry(row, _of_baseline(rows, row, baseline)) for row in rows],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _of_baseline(rows: Sequence[Row], row: Row, baseline: str | None) -> Row | None:
    """The baseline's row under the same condition, with the same attention backend if it has that."""
    same = [other for other in rows if other.source.name == baseline and other.condition == row.condition]
    return next((other for other in same if other.attn == row.attn), next(iter(same), None))


def _ratios(row: Row, base: Row | None) -> tuple[float | None, float | None]:
    """Of latency and of memory."""
    if base is None:
        return None, None
    latency = row.quartiles[1] / base.quartiles[1] if row.quartiles and base.quartiles else None
    usable = row.memory and base.memory and not (row.problem or base.problem)
    return latency, row.memory / base.memory if usable and row.memory and base.memory else None


def _line(row: Row, base: Row | None, with_ratios: bool) -> list[str]:
    line = [row.source.name, f"x{row.scale}", row.dtype, row.attn or "", str(row.batch)]
    line.append("" if row.parameters is None else f"{row.parameters / 1e3:,.0f} K")
    counted = (row.complexity.multiply_adds, row.complexity.activations) if row.complexity else ()
    line += [f"{counted[0] / 1e9:,.1f} G", f"{counted[1] / 1e6:,.0f} M"] if counted else ["", ""]
    if row.quartiles:
        first, median, third = (1000 * seconds for seconds in row.quartiles)
        line += [f"{median:.1f}", f"{first:.1f} to {third:.1f}"]
    else:
        line += [row.problem or "", ""]
    line.append("" if row.memory is None or row.problem else f"{row.memory / _MIB:,.0f}")
    ratios = _ratios(row, base) if with_ratios else ()
    return [*line, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)]


def _entry(row: Row, base: Row | None) -> dict[str, Any]:
    latency, memory = _ratios(row, base)
    return {
        "network": row.source.name,
        "given_as": row.source.text,
        "scale": row.scale,
        "dtype": row.dtype,
        "attention": row.attn,
        "batch": row.batch,
        "parameters": row.parameters,
        "multiply_adds": row.complexity and row.complexity.multiply_adds,
        "activations": row.complexity and row.complexity.activations,
        "latency_quartiles": row.quartiles,
        "latency": row.seconds,
        "memory": row.memory,
        "latency_ratio": latency,
        "memory_ratio": memory,
        "problem": row.problem,
    }
