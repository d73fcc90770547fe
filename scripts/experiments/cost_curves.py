"""Does cost grow linearly? Latency and peak memory over image area, batch and window size.

Networks run on images of growing area, on growing batches of the smallest image, and with growing windows on
one image. All take turns, so that load on the machine affects all equally. The logarithm of the cost is
fitted by a line over that of the size; its slope is the exponent k of cost ~ size^k.

  python scripts/experiments/cost_curves.py --model LMLT_tiny --model ESC_light --model basicsr:SwinIR-light

How to read it: k = 1 is linear, 2 is quadratic, 0 is constant. The 95 % interval comes from resampling the
sizes; with few of them it is wide, and below three there is none. "linear" means that it holds 1 and is no
wider than 0.5, "undecided" that it holds 1 and is wider. Costs that do not depend on the size (weights,
starting a kernel) push k below 1 at small sizes: "at the end" is the exponent between the two largest ones.
In the figure, dotted lines are linear growth through the last point. LMLT pads images to multiples of 8
windows, ESC and SwinIR to whole windows: choose sides that are such multiples, as the default is, or see
steps.

Default: a few minutes on two CPU cores. For a GPU: --sides 128 256 512 1024 2048 --repeats 30.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.program import Outcome, make_parser, run_experiment
from common.statistics import LEAST_PLACES, Interval, slope_interval
from lmlt_arch.archs import PRESETS
from lmlt_arch.cli.streams import progress_bar
from lmlt_arch.errors import DataError, UsageError
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.evaluation.markdown import cell, paragraph, table
from lmlt_arch.evaluation.profile.peak_memory import can_measure, measure_peak
from lmlt_arch.evaluation.profile.sources import BASICSR, NetworkSource, find_source, find_sources
from lmlt_arch.evaluation.profile.timing import describe_problem, run_for_memory, run_once

AXES = {
    "area": "pixels of the input image",
    "batch": "images at once",
    "window": "pixels of a window",
}
COSTS = {"seconds": "latency, s", "memory": "peak memory, MiB"}
MIB = 2**20
# An interval wider than this around 1 holds too much else.
_DECISIVE = 0.5


@dataclass(eq=False)
class Point:
    """A network at one size, and what it cost.

    Attributes:
        network: its name in tables.
        axis: key of `AXES` along which the point lies.
        size: on that axis.
        source: how to build it.
        side: of the input image in pixels.
        batch: images at once.
        seconds: of each timed run.
        memory: peak in bytes; None where it is not known.
        problem: why there are no figures.
    """

    network: str
    axis: str
    size: int
    source: NetworkSource
    side: int
    batch: int
    seconds: list[float] = field(default_factory=list)
    memory: int | None = None
    problem: str | None = None

    def costs(self) -> dict[str, float]:
        """By keys of `COSTS`, what is known."""
        found = {}
        if self.seconds and self.problem is None:
            found["seconds"] = float(np.median(self.seconds))
        if self.memory is not None and self.problem is None:
            found["memory"] = float(self.memory)
        return found


@dataclass(frozen=True)
class Sweep:
    """The sizes of all axes.

    Attributes:
        sides: of images in LQ pixels, for `area`.
        batches: for `batch`, of images of the smallest side.
        windows: sides of windows, for `window`, on images of `window_image` pixels.
        window_image: side of those.
    """

    sides: Sequence[int]
    batches: Sequence[int]
    windows: Sequence[int]
    window_image: int


def make_points(sources: Sequence[NetworkSource], sweep: Sweep, folder: Path) -> list[Point]:
    """Every network at every size; those without a choice of window have no points on that axis.

    Args:
        sources: the networks.
        sweep: the sizes.
        folder: where option files of networks with other windows are written.
    """
    points = []
    for source in sources:
        for side in sweep.sides:
            points.append(Point(source.name, "area", side**2, source, side, 1))
        for batch in sweep.batches:
            points.append(Point(source.name, "batch", batch, source, min(sweep.sides), batch))
        for window in sweep.windows:
            varied = _with_window(source, window, folder)
            if varied is not None:
                points.append(Point(source.name, "window", window**2, varied, sweep.window_image, 1))
    return points


def _with_window(source: NetworkSource, window: int, folder: Path) -> NetworkSource | None:
    """The same network with another window, or None."""
    if source.text in PRESETS:
        preset = PRESETS[source.text]
        network: dict[str, Any] = {"type": preset.arch, **preset.kwargs, "upscaling_factor": source.scale}
    elif source.text.startswith("basicsr:"):
        network = dict(BASICSR[source.text.removeprefix("basicsr:")])
    else:
        return None
    if network["type"] == "LMLT":
        network |= {"type": "LMLTVariant", "window": window}
    elif "window_size" in network:
        network["window_size"] = window
    else:
        return None
    # A file, because memory is measured in a process of its own. YAML reads JSON.
    path = folder / f"{source.name.replace('/', '_')}_window{window}.yml"
    path.write_text(json.dumps({"scale": source.scale, "network_g": network}))
    return find_source(str(path))


def measure_points(
    points: Sequence[Point],
    device: torch.device,
    *,
    repeats: int,
    memory: bool = True,
    after_step: Callable[[], object] = lambda: None,
) -> None:
    """Fill points with figures: all points run once a round, so that load on the machine affects all equally.

    What cannot run has its reason in `problem`.

    Args:
        points: from `make_points`; changed.
        device: where networks run.
        repeats: timed rounds, after one that warms up.
        memory: whether to measure its peak, which takes a process for each point on a CPU.
        after_step: called `steps` times, to show progress.
    """
    networks: dict[int, torch.nn.Module] = {}
    for number in range(repeats + 2):
        for point in points:
            if point.problem is None:
                try:
                    if id(point.source) not in networks:
                        network = point.source.build(point.source.scale, None)
                        networks[id(point.source)] = network.to(device)
                    _measure(point, networks[id(point.source)], device, number, memory)
                except Exception as error:
                    # An error affects this point only.
                    point.problem = describe_problem(error)
                    if device.type == "cuda":
                        torch.cuda.empty_cache()
            after_step()


def steps(points: Sequence[Point], repeats: int) -> int:
    """How often `measure_points` calls back."""
    return len(points) * (repeats + 2)


def _measure(point: Point, network: torch.nn.Module, device: torch.device, number: int, memory: bool) -> None:
    """Round 0 measures memory, 1 warms up, the others are timed."""
    shape = [point.batch, 3, point.side, point.side]
    if number == 0 and device.type == "cpu":
        # Elsewhere: what takes more memory than there is does not end this process.
        if memory and can_measure():
            point.memory, point.problem = measure_peak(
                {
                    "text": point.source.text,
                    "scale": point.source.scale,
                    "attn": None,
                    "dtype": "float32",
                    "shape": shape,
                    "threads": torch.get_num_threads(),
                }
            )
        return
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        if number == 0:
            point.memory = run_for_memory(network, image).memory if memory else None
            return
        seconds = run_once(network, image)
    if number > 1:
        point.seconds.append(seconds)


def fit_exponent(sizes: Sequence[float], costs: Sequence[float]) -> Interval:
    """The k of cost ~ size^k, by regression of logarithms, with a bootstrap interval over the sizes.

    Args:
        sizes: at least three different ones.
        costs: above 0.

    Raises:
        ValueError: fewer.
    """
    return slope_interval(np.log(sizes), np.log(costs))


def local_exponents(sizes: Sequence[float], costs: Sequence[float]) -> list[float]:
    """Between neighbors: what happens at the large end, where constant costs no longer count."""
    return (np.diff(np.log(costs)) / np.diff(np.log(sizes))).tolist()


def verdict(exponent: Interval) -> str:
    """An exponent in words."""
    if exponent.low > 1:
        return "more than linear"
    if exponent.high < 1:
        return "less than linear"
    return "linear" if exponent.high - exponent.low <= _DECISIVE else "undecided"


def curves_of(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A curve for each network, axis and cost, with its exponent where there are enough sizes."""
    curves = []
    for network in dict.fromkeys(point.network for point in points):
        for axis in AXES:
            on_axis = [point for point in points if (point.network, point.axis) == (network, axis)]
            for cost in COSTS:
                known = sorted((p.size, p.costs()[cost]) for p in on_axis if cost in p.costs())
                if not known:
                    continue
                sizes, values = zip(*known, strict=True)
                curve: dict[str, Any] = {
                    "network": network,
                    "axis": axis,
                    "cost": cost,
                    "sizes": list(sizes),
                    "values": list(values),
                }
                if len(known) >= LEAST_PLACES:
                    exponent = fit_exponent(sizes, values)
                    curve |= {
                        "exponent": exponent._asdict(),
                        "verdict": verdict(exponent),
                        "local_exponents": local_exponents(sizes, values),
                    }
                curves.append(curve)
    return curves


def outcome_of(points: Sequence[Point], sweep: Sweep, *, repeats: int) -> Outcome:
    """Curves, exponents, table and figure of measured points.

    Raises:
        DataError: nothing could be measured.
    """
    curves = curves_of(points)
    failed = [point for point in points if point.problem]
    problems = [{"network": p.network, "axis": p.axis, "size": p.size, "problem": p.problem} for p in failed]
    if not curves:
        raise DataError(f"nothing could be measured: {failed[0].problem if failed else 'no sizes'}")
    lines = [
        [
            curve["network"],
            AXES[curve["axis"]],
            COSTS[curve["cost"]].partition(",")[0],
            _shown(curve["exponent"]),
            f"{curve['local_exponents'][-1]:.2f}",
            curve["verdict"],
        ]
        for curve in curves
        if "exponent" in curve
    ]
    heads = ["network", "over", "cost", "exponent (95 % interval)", "at the end", "verdict"]
    summary = table(heads, lines)
    for problem in problems:
        where = f"{paragraph(str(problem['network']))}, {problem['axis']} {problem['size']}"
        summary += f"\n{where}: {cell(str(problem['problem']))}"
    result = {
        "sides": list(sweep.sides),
        "batches": list(sweep.batches),
        "windows": list(sweep.windows),
        "window_image": sweep.window_image,
        "repeats": repeats,
        "curves": curves,
        "problems": problems,
        "markdown": summary,
    }
    return Outcome(result, summary, _draw(curves))


def _shown(exponent: Mapping[str, float]) -> str:
    return f"{exponent['value']:.2f} ({exponent['low']:.2f} to {exponent['high']:.2f})"


def _draw(curves: Sequence[dict[str, Any]]) -> Any:
    """A row for each cost, a column for each axis, a line for each network, and one that is linear."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes_names = [axis for axis in AXES if any(curve["axis"] == axis for curve in curves)]
    cost_names = [cost for cost in COSTS if any(curve["cost"] == cost for curve in curves)]
    networks = list(dict.fromkeys(curve["network"] for curve in curves))
    figure = new_figure(4.6 * len(axes_names), 3.8 * len(cost_names))
    panels = figure.subplots(len(cost_names), len(axes_names), squeeze=False)
    for line, cost in zip(panels, cost_names, strict=True):
        for axes, axis in zip(line, axes_names, strict=True):
            shown = [curve for curve in curves if (curve["axis"], curve["cost"]) == (axis, cost)]
            for curve in shown:
                values = np.array(curve["values"]) / (MIB if cost == "memory" else 1)
                label = curve["network"]
                if "exponent" in curve:
                    label += f": {_shown(curve['exponent'])}"
                color = f"C{networks.index(curve['network']) % 10}"
                axes.plot(curve["sizes"], values, "o-", color=color, markersize=4, label=label)
                linear = values[-1] * np.array(curve["sizes"]) / curve["sizes"][-1]
                axes.plot(curve["sizes"], linear, ":", color=color, linewidth=0.9)
            sizes = sorted({size for curve in shown for size in curve["sizes"]})
            axes.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel=COSTS[cost])
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30, fontsize=7)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            for side in (axes.xaxis, axes.yaxis):
                side.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3)
            if shown:
                axes.legend(fontsize=6.5, title="exponent (dotted: linear)", title_fontsize=6.5)
    return figure


def _run(args: argparse.Namespace) -> Outcome:
    numbers = [*args.sides, *args.batches, *args.windows, args.window_image, args.repeats]
    if min(numbers) < 1:
        raise UsageError("sides, batches, windows and repeats must be above 0")
    if not args.sides:
        raise UsageError("--sides needs at least one")
    sides, batches, windows = (sorted(set(sizes)) for sizes in (args.sides, args.batches, args.windows))
    sweep = Sweep(sides, batches, windows, args.window_image)
    sources = find_sources(args.model)
    with tempfile.TemporaryDirectory() as folder:
        points = make_points(sources, sweep, Path(folder))
        with progress_bar("cost curves", "run", steps(points, args.repeats)) as bar:
            measure_points(
                points, args.device, repeats=args.repeats, memory=not args.no_memory, after_step=bar.update
            )
    return outcome_of(points, sweep, repeats=args.repeats)


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("cost_curves", str(__doc__))
    add = parser.add_argument
    text = "preset, option file, checkpoint or basicsr:NAME; repeatable"
    add("--model", action="append", required=True, metavar="[NAME=]WHAT", help=text)
    numbers: dict[str, Any] = {"type": int, "nargs": "*", "metavar": "N"}
    add("--sides", **numbers, default=[64, 128, 192, 256], help="of square images in LQ pixels")
    add("--batches", **numbers, default=[1, 2, 4, 8, 16, 32], help="of the smallest image")
    add("--windows", **numbers, default=[2, 4, 8, 16], help="sides of windows, for presets and basicsr:NAME")
    add("--window-image", type=int, default=128, metavar="N", help="side of the image for windows")
    add("--repeats", type=int, default=3, metavar="N", help="timed runs of each size (default: 3)")
    add("--no-memory", action="store_true", help="leave out memory, a process for each size on a CPU")
    return run_experiment(parser, _run, argv)


if __name__ == "__main__":
    sys.exit(main())
