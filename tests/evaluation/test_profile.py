"""`lmlt profile`: counts by hand, rows that do not run, tables, the picture, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.small.evaluations import checkpoint
from PIL import Image
from torch import nn

from lmlt_arch.archs import ESC, LMLT
from lmlt_arch.checkpoints.load import CheckpointError
from lmlt_arch.cli import main
from lmlt_arch.errors import FAILED, USAGE, MissingPackageError
from lmlt_arch.evaluation.complexity import Complexity, complexity
from lmlt_arch.evaluation.profile import peak_memory
from lmlt_arch.evaluation.profile.peak_memory import can_measure, measure_peak
from lmlt_arch.evaluation.profile.plot import Quality, dots_of, draw_plot
from lmlt_arch.evaluation.profile.run import Row, Setting, make_rows, profile
from lmlt_arch.evaluation.profile.sources import NetworkSource, find_source, find_sources

SMALL = Setting(width=96, height=64, repeats=3, warm_up=1, device=torch.device("cpu"), memory=False)


class Plain(nn.Module):
    """Two convolutions, one without a module, and a linear layer."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.zeros(3 * scale**2, 8, 1, 1))
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return nn.functional.pixel_shuffle(nn.functional.conv2d(x, self.weight), self.scale)


class Failing(Plain):
    """Runs only one image at a time, and nothing but float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 TiB")
        if x.dtype != torch.float32:
            raise NotImplementedError("no kernel for Half\nand more")
        return super().forward(x)


def source(name: str, cls: type[nn.Module] = Plain, **changes: Any) -> NetworkSource:
    return NetworkSource(
        name,
        **{
            "text": name,
            "scale": 2,
            "other_scales": True,
            "has_attention": False,
            "make": lambda scale, attn: cls(scale),
            **changes,
        },
    )


def rows_of(*sources: NetworkSource, **changes: Any) -> list[Row]:
    return make_rows(
        sources, **{"scales": None, "dtypes": ["fp32"], "attns": ["auto"], "batches": [1], **changes}
    )


def test_counts_by_hand() -> None:
    pixels = 32 * 48
    found = complexity(Plain(2), 2, width=96, height=64)
    assert found == Complexity(pixels * (3 * 8 * 9 + 8 * 8 + 8 * 12), pixels * (8 + 8 + 12))
    # Input sizes are rounded up.
    assert complexity(Plain(3), 3, width=10, height=7) == Complexity(12 * (216 + 64 + 216), 12 * (16 + 27))


def test_counts_are_those_of_a_run_with_numbers() -> None:
    """Module by module, and the large kernel that belongs to none."""
    network = ESC(8, 4, 5, 1, 2, 16, 2, 2).eval()
    total = 0

    def add(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(add)
    found = complexity(ESC(8, 4, 5, 1, 2, 16, 2, 2), 2, width=128, height=64)
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 64))
    # The shared kernel and the dynamic one, in two sub-blocks of one block.
    assert found.activations == total + 2 * 2 * 4 * 32 * 64


def test_every_row_runs_once_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def make(name: str) -> NetworkSource:
        class Noted(Plain):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if x.device.type == "cpu":
                    order.append(name)
                return super().forward(x)

        return source(name, Noted)

    rows = rows_of(make("a"), make("b"))
    profile(rows, SMALL)
    # Once for its size, one round to warm up, three that are timed.
    assert order == ["a", "b"] * 5
    for row in rows:
        assert row.problem is None and len(row.seconds) == 3 and row.quartiles is not None
        assert row.parameters == sum(p.numel() for p in Plain(2).parameters())
        assert row.quartiles[0] <= row.quartiles[1] <= row.quartiles[2]


def test_what_does_not_run_is_a_row_that_says_so() -> None:
    class WrongSize(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[..., 1:]

    class Unbuildable(Plain):
        def __init__(self, scale: int) -> None:
            raise ValueError("no such scale")

    rows = rows_of(
        source("fails", Failing), source("fine"), source("wrong", WrongSize), source("none", Unbuildable),
        source("fixed", other_scales=False, scale=3),
        scales=[2], dtypes=["fp32", "bf16"], batches=[1, 2],
    )  # fmt: skip
    profile(rows, SMALL)
    problems = {(row.source.name, row.dtype, row.batch): row.problem for row in rows}
    assert len(problems) == 5 * 4
    assert problems["fails", "fp32", 1] is None
    assert problems["fails", "fp32", 2] == problems["fails", "bf16", 2] == "out of memory"
    assert problems["fails", "bf16", 1] == "no kernel for Half"
    assert {problem for (name, *_), problem in problems.items() if name == "fine"} == {None}
    assert {problem for (name, *_), problem in problems.items() if name == "fixed"} == {"x3 only"}
    assert {problem for (name, *_), problem in problems.items() if name == "none"} == {"no such scale"}
    assert problems["wrong", "fp32", 1] == "gives (1, 3, 64, 95), not (1, 3, 64, 96)"


def test_attention_backends_are_for_those_who_have_them() -> None:
    rows = rows_of(*find_sources(["LMLT_tiny"]), source("other"), attns=["Naive", "SDPA"], scales=[2, 4])
    found = [(row.scale, row.source.name, row.attn) for row in rows]
    each = [("LMLT_tiny", "Naive"), ("LMLT_tiny", "SDPA"), ("other", None)]
    assert found == [(scale, *one) for scale in (2, 4) for one in each]
    assert rows[0].source.build(2, "Naive").attn_type == "Naive"


def test_networks_by_every_kind_of_name(tmp_path: Path) -> None:
    options = tmp_path / "mine.yml"
    network = {"type": "ESC", "dim": 16, "pdim": 4, "kernel_size": 5, "n_blocks": 1, "conv_blocks": 1,
               "window_size": 8, "num_heads": 2, "upscaling_factor": 3}  # fmt: skip
    options.write_text(yaml.safe_dump({"name": "x", "scale": 3, "network_g": network}))
    edsr = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
    (tmp_path / "edsr.yaml").write_text(yaml.safe_dump({"scale": 2, "network_g": edsr}))
    weights = checkpoint(tmp_path / "weights.pth", scale=2)
    texts = [
        "LMLT_tiny",
        str(options),
        str(tmp_path / "edsr.yaml"),
        f"mine too={weights}",
        "basicsr:SwinIR-light",
    ]
    found = find_sources(texts)
    assert [(s.name, s.scale, s.other_scales, s.has_attention) for s in found] == [
        ("LMLT_tiny", 4, True, True),
        ("mine", 3, True, True),
        ("edsr", 2, True, False),
        ("mine too", 2, False, True),
        ("SwinIR-light", 4, True, False),
    ]
    for source in found:
        network = source.build(source.scale, None)
        with torch.inference_mode():
            # 18 is no multiple of SwinIR's window.
            assert network(torch.rand(1, 3, 18, 16)).shape[-2:] == (18 * source.scale, 16 * source.scale)
    for other in (found[0], found[1], found[2]):
        with torch.inference_mode():
            assert other.build(2, None)(torch.rand(1, 3, 16, 16)).shape == (1, 3, 32, 32)
    torch.testing.assert_close(
        found[3].build(2, None).state_dict(), torch.load(weights)["params"], rtol=0, atol=0
    )


def test_swinir_light_has_its_published_size() -> None:
    network = find_source("basicsr:SwinIR-light").build(4, None)
    # 930 K and 63.6 G in the tables of the field, the latter without what makes 180 rows whole windows of 8.
    assert round(sum(p.numel() for p in network.parameters()) / 1000) == 930
    assert complexity(network, 4).multiply_adds / 1e9 == pytest.approx(63.6, rel=0.03)


@pytest.mark.skipif(find_spec("spandrel") is None, reason="the extra [spandrel] is not installed")
def test_any_file_that_spandrel_knows(tmp_path: Path) -> None:
    from basicsr.archs.srvgg_arch import SRVGGNetCompact

    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=16, num_conv=2, upscale=2).eval()
    path = tmp_path / "compact.pth"
    torch.save({"params": network.state_dict()}, path)
    (found,) = find_sources([str(path)])
    assert (found.name, found.scale, found.other_scales, found.has_attention) == ("compact", 2, False, False)
    image = torch.rand(1, 3, 20, 24)
    with torch.inference_mode():
        torch.testing.assert_close(found.build(2, None)(image), network(image).clamp(0, 1))
    (row,) = rows_of(found)
    profile([row], SMALL)
    assert row.problem is None and row.complexity is not None
    assert row.complexity == complexity(network, 2, width=96, height=64)


@pytest.mark.skipif(not can_measure(), reason="this system does not tell the peak of a process's memory")
@pytest.mark.slow
def test_peak_memory_grows_with_the_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"text": "LMLT_tiny", "scale": 4, "attn": None, "dtype": "float32", "threads": 1}
    small, large = (measure_peak({**request, "shape": [batch, 3, 64, 64]}) for batch in (1, 8))
    assert small[1] is None and large[1] is None and small[0] and large[0]
    # At least what a block's widest tensor takes: twice 36 channels of float32.
    assert large[0] > 8 * 64 * 64 * 72 * 4
    assert large[0] > small[0] + 7 * 64 * 64 * 36 * 4
    assert measure_peak({**request, "shape": [1, 4, 64, 64]}) == (
        None, "expected RGB images (B, 3, H, W), got (1, 4, 64, 64)"
    )  # fmt: skip
    # More than any machine has; the other process's part in this one.
    monkeypatch.setattr(sys, "argv", ["-c", json.dumps({**request, "shape": [10**6, 3, 4096, 4096]})])
    peak_memory.main()
    assert json.loads(capsys.readouterr().out) == {"bytes": None, "problem": "out of memory"}


def test_a_prelude_runs_before_memory_is_measured() -> None:
    assert measure_peak({}, "raise SystemExit('the prelude ran')") == (None, "the prelude ran")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["profile", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_command_writes_tables_and_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = checkpoint(tmp_path / "small.pth")
    table = {"results": [{"data": "Set5", "scale": 2, "network": "x", "file": str(weights), "preset": None,
                          "mean": {"psnr": 33.0}}]}  # fmt: skip
    (tmp_path / "table.json").write_text(json.dumps(table))
    arguments = ["--model", weights, "--model", "LMLT_tiny", "--scale", 2, "--size", "64x48", "--repeats", 2]
    arguments += ["--baseline", "LMLT_tiny", "-o", tmp_path / "cost"]
    plot = (
        ["--plot", tmp_path / "cost.png", "--quality", tmp_path / "table.json"]
        if find_spec("matplotlib")
        else []
    )
    out = run(capsys, *arguments, *plot)
    markdown = (tmp_path / "cost.md").read_text()
    assert out.startswith(markdown)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    small, tiny = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert tiny["latency_ratio"] == 1 and tiny["parameters"] == 239_340
    assert small["latency_ratio"] == pytest.approx(
        small["latency_quartiles"][1] / tiny["latency_quartiles"][1]
    )
    assert small["multiply_adds"] == complexity(LMLT(8, 1, 1.5, 2), 2, width=64, height=48).multiply_adds
    assert f"{small['latency_ratio']:.2f} |" in markdown
    if plot:
        assert Image.open(tmp_path / "cost.png").size[0] > 500


def measured(name: str, seconds: float, memory: int, *, scale: int = 2, batch: int = 1) -> Row:
    row = Row(source(name), scale, "fp32", None, batch, 1000, Complexity(2 * 10**9, 10), [seconds], memory)
    assert row.quartiles == (seconds,) * 3
    return row


def test_dots_stand_where_they_should() -> None:
    rows = [measured("a", 0.002, 1), measured("b", 0.004, 2), measured("c", 0.001, 3)]
    rows[2].problem = "out of memory"
    assert [(dot.latency, dot.height) for dot in dots_of(rows, None)] == [(2.0, 2.0), (4.0, 2.0)]
    quality = Quality("Set5", {(2, "b"): 30.5, (4, "a"): 28.0})
    assert [(dot.row.source.name, dot.height) for dot in dots_of(rows, quality)] == [("b", 30.5)]


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra [plots] is not installed")
def test_the_area_of_a_dot_is_memory() -> None:
    def area(memory: int) -> int:
        rows = [measured("a", 0.001, memory), measured("b", 0.1, 4000)]
        image = np.asarray(Image.open(io.BytesIO(draw_plot(rows, None))).convert("RGB")).astype(int)
        # The first color, half transparent on white: blue.
        return int(((image[..., 2] - image[..., 0] > 60) & (image[..., 2] > 180)).sum())

    assert area(4000) / area(1000) == pytest.approx(4, rel=0.15)


def test_what_cannot_be_profiled_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = ["--model", "LMLT_tiny"]
    empty, typo = tmp_path / "empty.yml", tmp_path / "typo.yml"
    empty.write_text("name: x\n")
    typo.write_text("scale: 2\nnetwork_g: {type: SwinIT}\n")
    (tmp_path / "broken.yml").write_text("a: [\n")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "no.json").write_text("[]")
    plot = ["--plot", tmp_path / "p.png"]
    cases: list[tuple[list[object], int, str]] = [
        (["--model", "LMLT_tinny"], 2, "--model LMLT_tinny: no such file, and none of the names LMLT_tiny, "),
        (["--model", "basicsr:Swin"], 2, "--model basicsr:Swin: known are basicsr:SwinIR-light, "),
        (["--model", empty], 2, f"{empty} has no section network_g with a type"),
        (["--model", typo], 2, f"--model {typo}: BasicSR knows no network 'SwinIT'"),
        (["--model", tmp_path / "broken.yml"], 2, "broken.yml is no YAML"),
        (["--model", tmp_path / "absent.yml"], 2, "absent.yml cannot be read"),
        (["--model", tmp_path / "notes.txt"], 1, "notes.txt: damaged"),
        ([*net, *net], 2, "two networks are called LMLT_tiny"),
        ([*net, "--baseline", "SwinIR"], 2, "--baseline SwinIR is none of the networks LMLT_tiny"),
        ([*net, "--size", "1280"], 2, "--size 1280: give width and height of the output, as 1280x720"),
        ([*net, "--attn", "Flesh"], 2, "--attn: unknown attn_type 'Flesh'"),
        ([*net, "--batch", "0"], 2, "--batch, --scale and --repeats must be above 0"),
        ([*net, "--device", "cuda:7"], 2, "device 'cuda:7' cannot be used here"),
        ([*net, "-o", tmp_path / "no/cost"], 1, "there is no folder"),
        ([*net, "--quality", tmp_path / "no.json"], 2, "--quality is for the picture: give --plot OUT.png"),
        ([*net, "-o", tmp_path / "no", "--quality", tmp_path / "no.json"], 2, "no.json would be overwritten"),
        ([*net, *plot], 2, '--plot needs matplotlib: pip install "basicsr-lmlt[plots]"'),
    ]  # fmt: skip
    if find_spec("matplotlib"):
        read = [*net, *plot, "--quality"]
        cases.insert(
            0, ([*read, tmp_path / "no.json"], 1, "no.json is no JSON that lmlt benchmark wrote, with PSNR")
        )
        cases.insert(0, ([*read, tmp_path / "absent.json"], 2, "absent.json cannot be read: No such file"))
    for arguments, status, message in cases:
        if "needs matplotlib" in message:
            monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert main(["profile", *map(str, arguments)]) == status, arguments
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1 and error[0].startswith("lmlt profile: error: "), error
        assert message in error[0]


def test_other_files_need_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    wanted = r'not a checkpoint of LMLT.*pip install "basicsr-lmlt\[spandrel\]"'
    with pytest.raises(CheckpointError, match=wanted) as refusal:
        find_source(str(path))
    assert isinstance(refusal.value, MissingPackageError) and refusal.value.exit_status == USAGE
    path.write_text("weights")
    with pytest.raises(CheckpointError, match=r"damaged.*basicsr-lmlt\[spandrel\]") as refusal:
        find_source(str(path))
    assert refusal.value.exit_status == FAILED
