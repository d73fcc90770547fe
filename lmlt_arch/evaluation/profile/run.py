"""Operations, latency and memory of several networks in one interleaved run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lmlt_arch.dtypes import DTYPES
from lmlt_arch.evaluation.complexity import Complexity, complexity
from lmlt_arch.evaluation.profile.peak_memory import can_measure, measure_peak
from lmlt_arch.evaluation.profile.sources import NetworkSource
from lmlt_arch.evaluation.profile.timing import describe_problem, run_for_memory, run_once


@dataclass(frozen=True)
class Setting:
    """The setting that all rows share.

    Attributes:
        width: of the output, in pixels.
        height: of the output.
        repeats: timed rounds.
        warm_up: rounds before them.
        device: where networks run.
        memory: whether to measure its peak, which takes a process for each row where it is not a GPU's.
        prelude: Python statements that such a process runs first.
    """

    width: int
    height: int
    repeats: int
    warm_up: int
    device: torch.device
    memory: bool = True
    prelude: str = ""

    def shape(self, row: Row) -> list[int]:
        """Of the input, its sides rounded up."""
        return [row.batch, 3, -(-self.height // row.scale), -(-self.width // row.scale)]


@dataclass(eq=False)
class Row:
    """A network under certain conditions, with its results.

    Attributes:
        source: the network.
        scale: output size over input size.
        dtype: key of `DTYPES`, for weights and images.
        attn: attention backend; None where the network has no choice.
        batch: images at once.
        parameters: how many.
        complexity: for one image; None if it cannot be counted.
        seconds: of each timed run.
        memory: peak in bytes; None if this device does not report it.
        problem: why there are no such figures.
    """

    source: NetworkSource
    scale: int
    dtype: str
    attn: str | None
    batch: int
    parameters: int | None = None
    complexity: Complexity | None = None
    seconds: list[float] = field(default_factory=list)
    memory: int | None = None
    problem: str | None = None

    @property
    def quartiles(self) -> tuple[float, float, float] | None:
        """First quartile, median and third quartile of the seconds."""
        if self.problem or not self.seconds:
            return None
        first, median, third = np.percentile(self.seconds, (25, 50, 75))
        return float(first), float(median), float(third)

    @property
    def condition(self) -> tuple[int, str, int]:
        """Scale, dtype and batch, which must be equal for two networks to be compared."""
        return self.scale, self.dtype, self.batch


def make_rows(
    sources: Sequence[NetworkSource],
    *,
    scales: Sequence[int] | None,
    dtypes: Sequence[str],
    attns: Sequence[str],
    batches: Sequence[int],
) -> list[Row]:
    """Every network under all conditions, those of one condition together.

    Args:
        sources: the networks.
        scales: None for each network's own; a network that has another says so in its row.
        dtypes: keys of `DTYPES`.
        attns: attention backends, for networks that have a choice.
        batches: images at once.
    """
    rows = []
    for scale in scales or sorted({source.scale for source in sources}):
        for dtype in dtypes:
            for batch in batches:
                for source in sources:
                    if scales is None and scale != source.scale:
                        continue
                    fits = source.other_scales or scale == source.scale
                    problem = None if fits else f"x{source.scale} only"
                    for attn in attns if source.has_attention else (None,):
                        rows.append(Row(source, scale, dtype, attn, batch, problem=problem))
    return rows


def profile(rows: Sequence[Row], setting: Setting, after_step: Callable[[], object] = lambda: None) -> None:
    """Fill rows with figures: every row runs once a round, so that load on the machine affects all equally.

    What cannot run has its reason in `problem`.

    Args:
        rows: from `make_rows`; changed.
        setting: what they have in common.
        after_step: called `steps` times, to show progress.
    """
    bench = _Bench(setting)
    for row in rows:
        bench.prepare(row)
        after_step()
    for number in range(setting.warm_up + setting.repeats):
        for row in rows:
            bench.run(row, timed=number >= setting.warm_up)
            after_step()


def steps(rows: Sequence[Row], setting: Setting) -> int:
    """How often `profile` calls back."""
    return len(rows) * (1 + setting.warm_up + setting.repeats)


class _Bench:
    """The networks, one for all batch sizes, and their inputs, on the device."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._networks: dict[tuple[str, int, str | None, str], nn.Module] = {}
        self._images: dict[tuple[int, int, str], Tensor] = {}
        self._complexity: dict[tuple[str, int], tuple[int, Complexity | None]] = {}

    def prepare(self, row: Row) -> None:
        """Build, count, and measure memory."""
        with _problems_of(row):
            self._count(row)
            setting = self._setting
            if row.problem is None and setting.memory and setting.device.type == "cpu" and can_measure():
                # First elsewhere: what takes more memory than there is does not end this process.
                row.memory, row.problem = measure_peak(
                    {
                        "text": row.source.text,
                        "scale": row.scale,
                        "attn": row.attn,
                        "dtype": str(DTYPES[row.dtype]).removeprefix("torch."),
                        "shape": setting.shape(row),
                        "threads": torch.get_num_threads(),
                    },
                    setting.prelude,
                )
        with _problems_of(row), torch.inference_mode():
            if row.problem is None:
                output, memory = run_for_memory(self._network(row), self._image(row))
                self._check(row, output)
                if setting.memory and memory is not None:
                    row.memory = memory

    def run(self, row: Row, *, timed: bool) -> None:
        """One forward pass."""
        if row.problem is not None:
            return
        with _problems_of(row), torch.inference_mode():
            seconds = run_once(self._network(row), self._image(row))
            if timed:
                row.seconds.append(seconds)

    def _count(self, row: Row) -> None:
        if row.problem is not None:
            return
        key = (row.source.name, row.scale)
        if key not in self._complexity:
            network = row.source.build(row.scale, None)
            try:
                counted = complexity(
                    network, row.scale, width=self._setting.width, height=self._setting.height
                )
            except Exception:
                # Others' networks need not run without memory; then there is no count of them.
                counted = None
            self._complexity[key] = (sum(p.numel() for p in network.parameters()), counted)
        row.parameters, row.complexity = self._complexity[key]

    def _network(self, row: Row) -> nn.Module:
        key = (row.source.name, row.scale, row.attn, row.dtype)
        if key not in self._networks:
            network = row.source.build(row.scale, row.attn)
            self._networks[key] = network.to(self._setting.device, DTYPES[row.dtype])
        return self._networks[key]

    def _image(self, row: Row) -> Tensor:
        key = (row.scale, row.batch, row.dtype)
        if key not in self._images:
            generator = torch.Generator().manual_seed(0)
            image = torch.rand(self._setting.shape(row), generator=generator)
            self._images[key] = image.to(self._setting.device, DTYPES[row.dtype])
        return self._images[key]

    def _check(self, row: Row, output: Tensor) -> None:
        batch, _, height, width = self._setting.shape(row)
        expected = (batch, 3, height * row.scale, width * row.scale)
        if tuple(output.shape) != expected:
            raise ValueError(f"gives {tuple(output.shape)}, not {expected}")


@contextmanager
def _problems_of(row: Row) -> Iterator[None]:
    """An error affects this row only."""
    try:
        yield
    except Exception as error:
        row.problem = describe_problem(error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
