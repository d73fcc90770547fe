"""How much faster than the same networks written down plainly, and in how much less memory?

  python scripts/benchmarks/speed.py --threads 2
  python scripts/benchmarks/speed.py --model LMLT_tiny LMLT --scale 2 4 --batch 1 8 --backend compile -o speed
  python scripts/benchmarks/speed.py --device cuda --dtype bf16 --batch 1 8 --attn auto SDPA --backend graph
  python scripts/benchmarks/speed.py --device cuda --dtype bf16 --batch 64 --training

The plain reference (tests/reference: NCHW, eager, attention with its whole score matrix) and this
package's networks have the same weights and see the same images, in turns, in one process. First they must
agree: in float32 (on a GPU for once without TF32) within 1e-5 of the output's range. Then come medians of the
time and of the ratios of all turns, with the least and the largest; peak memory above idle, on a CPU of a
process for each; and how near the floor a run is: its multiply-adds over the rate that matrix work reaches
here, and what its layers put out, written once and read once, over the rate of copies. On a GPU there is also
the median of each side as a CUDA graph: what remains where starting kernels costs nothing. SwinIR-light of
BasicSR runs beside them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmlt_arch import archs
from lmlt_arch.archs import PRESETS, SRNetwork
from lmlt_arch.cli.streams import progress_bar
from lmlt_arch.dtypes import DTYPES
from lmlt_arch.evaluation.complexity import complexity
from lmlt_arch.evaluation.models import describe_environment, full_precision
from lmlt_arch.evaluation.profile.peak_memory import can_measure, peak_above_idle
from lmlt_arch.evaluation.profile.sources import find_source
from lmlt_arch.evaluation.profile.timing import describe_problem, run_once
from lmlt_arch.files import write_atomic
from lmlt_arch.inference.runner import ExportedRunner, NetworkRunner, choose_device
from realsr.degradation import precision
from speed_report import Row, draw, to_markdown

TESTS = Path(__file__).resolve().parents[2] / "tests"
# Of the published networks those of one scale, but ESC_XL, which takes long, and the sister of ESC_Real.
NETWORKS = tuple(
    name
    for name, preset in PRESETS.items()
    if not getattr(archs, preset.arch).any_scale and name not in ("ESC_XL", "ESC_Real_M")
)
# graph: as `lmlt upscale` runs sizes that come again, on a GPU.
BACKENDS = ("graph", "compile", "onnxruntime", "openvino")
SWINIR = "basicsr:SwinIR-light"
# Largest difference, as a share of the output's range.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}

Run = Callable[[Tensor], object]


class Work(NamedTuple):
    """One line of the table's left side."""

    model: str
    scale: int
    batch: int
    training: bool

    @property
    def text(self) -> str:
        """Its name."""
        return f"{self.model} x{self.scale}, batch {self.batch}" + (
            ", training step" if self.training else ""
        )


class Bench:
    """Makes the sides of a comparison and measures them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device: torch.device = choose_device(args.device)
        self.dtype = DTYPES[args.dtype]
        width, _, height = args.size.partition("x")
        self.width, self.height = int(width), int(height)

    def image(self, work: Work) -> Tensor:
        """Its input."""
        generator = torch.Generator().manual_seed(0)
        side = (64, 64) if work.training else (-(-self.height // work.scale), -(-self.width // work.scale))
        return torch.rand(work.batch, 3, *side, generator=generator).to(self.device, self.dtype)

    def make(self, work: Work, side: str) -> Run:
        """One side, ready to run."""
        if work.model == SWINIR:
            return self._for(work, find_source(SWINIR).build(work.scale, None))
        preset = PRESETS[work.model]
        network: SRNetwork = getattr(archs, preset.arch)(**preset.kwargs, upscaling_factor=work.scale)
        weights = randomized(network).state_dict()
        if side == "plain":
            reference = importlib.import_module("reference").NETWORKS[preset.arch]
            plain: nn.Module = reference(**preset.kwargs, upscaling_factor=work.scale)
            plain.load_state_dict(weights)
            return self._for(work, plain)
        if side in ("compile", "graph") and not work.training:
            return NetworkRunner(network, device=self.device, dtype=self.dtype, compile=side == "compile")
        if side == "compile":
            # As `compile: true` does for a single process.
            network.compile(dynamic=False, mode="reduce-overhead" if self.device.type == "cuda" else None)
            return self._for(work, network)
        if side in BACKENDS:
            return exported(network, self.device, side)
        network.attn_type = side.removeprefix("ours ") if side != "ours" else "auto"
        return self._for(work, network)

    def _for(self, work: Work, network: nn.Module) -> Run:
        network = network.to(self.device, torch.float32 if work.training else self.dtype)
        if not work.training:
            return network.eval().requires_grad_(False)
        network.train()
        optimizer = torch.optim.Adam(network.parameters(), 1e-5, fused=self.device.type == "cuda")
        amp = self.dtype is not torch.float32

        def step(lq: Tensor) -> float:
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=amp):
                loss = network(lq.float()).float().abs().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return 0.0

        return step

    def sides(self, work: Work) -> list[str]:
        """The sides to compare."""
        if work.model == SWINIR:
            return ["BasicSR"]
        ours = [f"ours {attn}" if attn != "auto" else "ours" for attn in self.args.attn]
        backends = [name for name in self.args.backend if not work.training or name == "compile"]
        return ["plain", *ours, *backends]

    def peak(self, work: Work, side: str) -> int | None:
        """Bytes above idle, on a CPU of a process of its own; None where it cannot be measured."""
        if self.device.type == "cuda":
            return self._peak_on_gpu(work, side)
        if not can_measure() or work.training:
            return None
        args = self.args
        own = ["--size", args.size, "--dtype", args.dtype, "--threads", str(args.threads), "--device", "cpu"]
        question = json.dumps([work._asdict(), side])
        program = [sys.executable, __file__, *own, "--peak", question]
        done = subprocess.run(program, capture_output=True, text=True)
        return int(done.stdout) if done.returncode == 0 else None

    def _peak_on_gpu(self, work: Work, side: str) -> int:
        torch.cuda.empty_cache()
        idle = torch.cuda.memory_allocated(self.device)
        run, lq = self.make(work, side), self.image(work)
        torch.cuda.reset_peak_memory_stats(self.device)
        with torch.inference_mode(not work.training):
            # Recordings are made, and optimizers have their state, from the second time on.
            for _ in range(3):
                run(lq)
        return torch.cuda.max_memory_allocated(self.device) - idle

    def compare(self, work: Work, floor: Floor, tick: Callable[[], object]) -> list[Row]:
        """All sides of one work."""
        lq = self.image(work)
        runs: dict[str, Run] = {}
        rows: list[Row] = []
        expected: Tensor | None = None
        with torch.inference_mode(not work.training):
            for side in self.sides(work):
                try:
                    run = self.make(work, side)
                    # Neither products nor convolutions in TF32.
                    with precision.full_precision(self.device.type), full_precision():
                        output = run(lq)
                    for _ in range(2 if self.device.type == "cuda" else 0):
                        run(lq)
                except Exception as error:
                    rows.append(Row(work.text, side, problem=describe_problem(error)))
                    continue
                runs[side] = run
                if isinstance(output, Tensor):
                    expected = output.float() if expected is None else expected
                    check(work, side, output.float(), expected, TOLERANCE[self.dtype])
            times: dict[str, list[float]] = {side: [] for side in runs}
            for _ in range(self.args.repeats):
                for side, run in runs.items():
                    times[side].append(self._seconds(run, lq))
                    tick()
            graphs = {side: self._recorded(run, lq) for side, run in runs.items()}
        runs.clear()
        for side, seconds in times.items():
            ratios = [a / b for a, b in zip(times["plain"], seconds, strict=True)] if "plain" in times else []
            median = statistics.median(seconds)
            rows.append(
                Row(
                    work.text,
                    side,
                    median,
                    (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None,
                    None if self.args.no_memory else self.peak(work, side),
                    graphs[side],
                    *floor.shares(work, median, self),
                )
            )
        return rows

    def _recorded(self, run: Run, lq: Tensor) -> float | None:
        """Seconds of a replay; None where there is nothing to record."""
        if self.device.type != "cuda" or not isinstance(run, nn.Module):
            return None
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                run(lq)
        except RuntimeError:
            return None
        return statistics.median(
            self._seconds(lambda _: graph.replay(), lq) for _ in range(self.args.repeats)
        )

    def _seconds(self, run: Run, lq: Tensor) -> float:
        if isinstance(run, nn.Module):
            return run_once(run, lq)
        start = time.perf_counter()
        run(lq)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


class Floor:
    """What this machine can do at best."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.rate = max(_rate_of_products(device, dtype), _rate_of_convolutions(device, dtype))
        source = torch.empty(1 << 26, dtype=torch.float32, device=device)
        target = torch.empty_like(source)
        self.bandwidth = 2 * source.nbytes / _best(lambda: target.copy_(source), device)
        self._costs: dict[tuple[str, int], Any] = {}

    def shares(self, work: Work, seconds: float, bench: Bench) -> tuple[float | None, float | None]:
        """What a run reaches of both rates; nothing for a training step."""
        if work.training:
            return None, None
        key = work.model, work.scale
        if key not in self._costs:
            network = find_source(work.model).build(work.scale, None)
            self._costs[key] = complexity(network, work.scale, width=bench.width, height=bench.height)
        cost = self._costs[key]
        size = torch.empty(0, dtype=bench.dtype).element_size()
        operations = 2 * cost.multiply_adds * work.batch / seconds
        moved = 2 * cost.activations * size * work.batch / seconds
        return operations / self.rate, moved / self.bandwidth


def _best(run: Callable[[], object], device: torch.device) -> float:
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def _rate_of_products(device: torch.device, dtype: torch.dtype) -> float:
    side = 8192 if device.type == "cuda" else 2048
    a = torch.rand(side, side, device=device, dtype=dtype)
    return 2 * side**3 / _best(lambda: a @ a, device)


def _rate_of_convolutions(device: torch.device, dtype: torch.dtype) -> float:
    # The library for convolutions may know the processor better than the one for products.
    layout = torch.channels_last
    weight = torch.rand(64, 64, 3, 3, device=device, dtype=dtype).contiguous(memory_format=layout)
    x = torch.rand(4, 64, 128, 128, device=device, dtype=dtype).contiguous(memory_format=layout)
    return 2 * 9 * 64 * x.numel() / _best(lambda: functional.conv2d(x, weight, padding=1), device)


def randomized(network: SRNetwork) -> SRNetwork:
    """Weights that are the same each time, none of them zero, as in a fresh dynamic kernel."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        spread = 0.02 if parameter.dim() == 1 else (2 / parameter[0].numel()) ** 0.5 / 4
        noise = spread * torch.randn(parameter.shape, generator=generator)
        parameter.data = noise + (1 if parameter.dim() == 1 and parameter.mean() > 0.5 else 0)
    return network.eval()


def exported(network: SRNetwork, device: torch.device, backend: str) -> ExportedRunner:
    """The network as an ONNX file, in a program that runs such files."""
    from lmlt_arch.export.export import export_model

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, output = Path(folder, "network.pth"), Path(folder, "network.onnx")
        torch.save({"params": network.state_dict()}, checkpoint)
        export_model(checkpoint, output)
        return ExportedRunner(output, device, backend=backend)


def check(work: Work, side: str, output: Tensor, expected: Tensor, tolerance: float) -> None:
    """Stop where two sides compute different functions.

    Raises:
        SystemExit: they do.
    """
    reach = float(expected.max() - expected.min())
    error = float((output.to(expected.device) - expected).abs().max()) / reach
    if not error <= tolerance:
        raise SystemExit(f"{work.text}: {side} differs by {error:.2g} of the output's range")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", nargs="+", default=[*NETWORKS, SWINIR], choices=[*NETWORKS, SWINIR], metavar="NAME")
    add("--scale", nargs="+", type=int, default=[4], metavar="N", help="default: 4")
    add("--batch", nargs="+", type=int, default=[1], metavar="N", help="default: 1")
    add("--size", default="1280x720", metavar="WxH", help="of the output (default: 1280x720)")
    add("--attn", nargs="+", default=["auto"], metavar="NAME", help="attention of ours (default: auto)")
    add("--backend", nargs="*", default=[], choices=BACKENDS, help="what else runs our networks")
    add("--training", action="store_true", help="training steps on 64 x 64 patches instead of inference")
    add("--device", default="auto")
    add("--dtype", default="fp32", choices=DTYPES)
    add("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    add("--repeats", type=int, default=5, metavar="N", help="turns (default: 5)")
    add("--no-memory", action="store_true")
    add("-o", "--output", type=Path, metavar="PREFIX", help="write PREFIX.md, PREFIX.json and PREFIX.png")
    add("--peak", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, print, write."""
    parser = make_parser()
    args = parser.parse_args()
    if not args.size.replace("x", "", 1).isdigit() or min([*args.scale, *args.batch, args.repeats]) < 1:
        parser.error("--size is like 1280x720; --scale, --batch and --repeats are above 0")
    sys.path.insert(0, str(TESTS))
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    bench = Bench(args)
    if args.peak:
        work, side = json.loads(args.peak)
        asked = Work(**work)
        print(peak_above_idle(lambda: (bench.make(asked, side), bench.image(asked))))
        return
    works = [
        Work(model, scale, batch, args.training)
        for model in args.model
        for scale in args.scale
        for batch in args.batch
        if model == SWINIR or scale in PRESETS[model].scales
    ]
    floor = Floor(bench.device, bench.dtype)
    setting = describe_environment(bench.device) | {
        "dtype": args.dtype,
        "matrix peak": f"{floor.rate / 1e9:.0f} GFLOP/s",
        "copies": f"{floor.bandwidth / 1e9:.1f} GB/s",
    }
    rows: list[Row] = []
    steps = sum(len(bench.sides(work)) for work in works) * args.repeats
    with progress_bar("speed", "run", steps) as bar:
        for work in works:
            rows += bench.compare(work, floor, lambda: bar.update(1))
    head = ", ".join(f"{name} {value}" for name, value in setting.items())
    text = f"{head}; median of {args.repeats} turns, output {args.size}\n\n{to_markdown(rows)}"
    print(text)
    if args.output:
        record = json.dumps({"setting": setting, "rows": [row._asdict() for row in rows]}, indent=1) + "\n"
        write_atomic(args.output.with_suffix(".md"), text.encode())
        write_atomic(args.output.with_suffix(".json"), record.encode())
        if any(row.ratio for row in rows):
            write_atomic(args.output.with_suffix(".png"), draw(rows))


if __name__ == "__main__":
    main()
