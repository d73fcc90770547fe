"""`lmlt compare`: what is compared, the picture, and what is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils.img_util import tensor2img
from helpers.small.evaluations import checkpoint, photo, save
from PIL import Image

from lmlt_arch import load_model
from lmlt_arch.archs import LMLT
from lmlt_arch.cli import main
from lmlt_arch.data.imresize import imresize
from lmlt_arch.errors import DataError
from lmlt_arch.evaluation.compare.comparison import Comparison, Crop, Version, choose_crops, compare
from lmlt_arch.evaluation.compare.sheet import COLORS, draw_sheets
from lmlt_arch.evaluation.models import LoadedModel, load_models
from lmlt_arch.evaluation.pairs import Scores


def test_versions_are_the_networks_output_rounded_as_basicsr_does(tmp_path: Path) -> None:
    lq, gt = photo(41, 37), photo(83, 75)
    paths = [checkpoint(tmp_path / f"{seed}.pth", seed=seed) for seed in (1, 2)]
    found = compare(
        load_models([str(path) for path in paths]),
        save(tmp_path / "lq.png", lq),
        save(tmp_path / "gt.png", gt),
    )
    assert [version.name for version in found.versions] == ["bicubic", "1", "2"]
    assert found.gt is not None
    np.testing.assert_array_equal(found.gt, gt[:74, :82])
    np.testing.assert_array_equal(found.versions[0].pixels, imresize(lq, 2))
    for path, version in zip(paths, found.versions[1:], strict=True):
        with torch.inference_mode():
            output = load_model(path)(torch.tensor(lq).permute(2, 0, 1)[None] / 255)
        assert (output < 0).any() and (output > 1).any()
        bgr = tensor2img([output])
        np.testing.assert_array_equal(version.pixels, bgr[..., ::-1])
        pair = {"img": bgr, "img2": found.gt[..., ::-1], "crop_border": 2, "test_y_channel": True}
        expected = (calculate_psnr(**pair), calculate_ssim(**pair))
        assert version.scores == pytest.approx(expected, abs=1e-5)


def test_small_image_is_made_from_ground_truth(tmp_path: Path) -> None:
    gt = photo(83, 75)
    models = load_models([str(checkpoint(tmp_path / "x3.pth", scale=3))])
    found = compare(models, None, save(tmp_path / "gt.png", gt))
    np.testing.assert_array_equal(found.lq, imresize(gt[:75, :81], 1 / 3))
    assert found.size == (75, 81)


def test_tiles_cover_the_image(tmp_path: Path) -> None:
    models = load_models([str(checkpoint(tmp_path / "net.pth"))])
    path = save(tmp_path / "lq.png", photo(150, 80))
    whole, tiled = (compare(models, path, None, tile=tile).versions[1].pixels for tile in (None, 64))
    assert whole.shape == tiled.shape == (160, 300, 3)
    difference = np.abs(whole.astype(int) - tiled)
    assert 0 < difference.mean() < 2
    # The left half of the first tile has nothing to blend with.
    assert difference[:, :128].max() == 0


def differing(*places: tuple[int, int]) -> Comparison:
    """Two versions that differ in squares of 20 pixels at places (x, y), each more than the next."""
    first = np.full((200, 300, 3), 100, np.uint8)
    second = first.copy()
    for number, (x, y) in enumerate(places):
        second[y : y + 20, x : x + 20] += 100 - 40 * number
    versions = [Version("bicubic", first, Scores(20, 0.5)), Version("net", second, Scores(25.25, 0.75))]
    return Comparison("squares", 2, first[::2, ::2], first, versions)


def test_crops_are_chosen_where_versions_differ() -> None:
    places = [(230, 30), (40, 150)]
    crops = choose_crops(differing(*places), 2)
    assert len(crops) == 2
    for crop, (x, y) in zip(crops, places, strict=True):
        assert crop.x <= x and x + 20 <= crop.x + crop.width
        assert crop.y <= y and y + 20 <= crop.y + crop.height
        assert 0 <= crop.x <= 300 - crop.width and 0 <= crop.y <= 200 - crop.height


def test_chosen_crops_do_not_overlap() -> None:
    seen = np.zeros((200, 300), int)
    crops = choose_crops(differing((100, 100)), 100)
    assert len(crops) > 4
    for crop in crops:
        seen[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width] += 1
    assert seen.max() == 1


def test_a_tiny_image_is_one_crop() -> None:
    tiny = np.zeros((4, 6, 3), np.uint8)
    comparison = Comparison("tiny", 2, tiny[::2, ::2], None, [Version("bicubic", tiny, None)])
    assert choose_crops(comparison, 3) == [Crop(0, 0, 6, 4)]


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def count(image: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((image == np.array(color)).all(-1).sum())


def test_sheet_shows_the_crops_upscaled_and_boxes_in_their_colors() -> None:
    comparison = differing((230, 30))
    comparison.versions[1].pixels[30:50, 230:250] = (1, 2, 3)
    sheet = picture(draw_sheets([(comparison, [Crop(220, 20, 40, 40)])]))
    # 20 x 20 pixels, six times as large; and not elsewhere.
    assert count(sheet, (1, 2, 3)) == (20 * 6) ** 2
    # Around the place in the whole image and around three crops: GT, bicubic, net.
    frame = tuple(int(COLORS[0][i : i + 2], 16) for i in (1, 3, 5))
    assert count(sheet, frame) > 3 * (240 * 4 * 3 - 4 * 9)
    second = picture(draw_sheets([(comparison, [Crop(220, 20, 40, 40)])] * 2))
    assert second.shape == (2 * sheet.shape[0], *sheet.shape[1:])


def test_error_maps_are_dark_where_nothing_differs() -> None:
    comparison = differing((230, 30))
    crop = [Crop(220, 20, 40, 40)]
    with_truth = picture(draw_sheets([(comparison, crop)]))
    blind = Comparison(
        "blind", 2, comparison.lq, None, [v._replace(scores=None) for v in comparison.versions]
    )
    without = picture(draw_sheets([(blind, crop)]))
    assert with_truth.shape[0] > without.shape[0] + 200
    # Bicubic equals ground truth here: its map is black; the other's is in all but the square.
    black = count(with_truth, (0, 0, 0)) - count(without, (0, 0, 0))
    assert 240**2 + 240**2 - 120**2 <= black < 240**2 + 240**2 - 120**2 + 3000


def test_command_writes_picture_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (str(checkpoint(tmp_path / f"{seed}.pth", seed=seed)) for seed in (1, 2))
    images = [str(save(tmp_path / f"{left}.png", photo(left=left))) for left in (0, 90)]
    out, page = tmp_path / "out.png", tmp_path / "out.html"
    command = ["compare", *images, "--from-gt", "--model", first, "--model", f"ours={second}"]
    assert main([*command, "-o", str(out), "--html", str(page), "--crop", "10", "20", "30", "24"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[:6]] == [
        [image, name] for image in ("0", "90") for name in ("bicubic", "1", "ours")
    ]
    assert all(" dB  " in line for line in printed[:6])
    assert printed[6] == f"written: {out}, {page}"
    assert picture(out.read_bytes()).ndim == 3
    assert b'"name": "ours"' in page.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_what_cannot_be_compared_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, other = (str(checkpoint(tmp_path / f"x{scale}.pth", scale=scale)) for scale in (2, 3))
    image, large = (str(save(tmp_path / f"{width}.png", photo(width, width))) for width in (24, 60))
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(image).read_bytes()[:200])
    (tmp_path / "file").write_text("")
    broken = tmp_path / "nan.pth"
    state = torch.load(net)
    state["params"]["to_feat.weight"][:] = float("nan")
    torch.save(state, broken)
    (tmp_path / "again").mkdir()
    same = str(checkpoint(tmp_path / "again/x2.pth"))
    out = ["-o", str(tmp_path / "out.png")]
    base = [image, "--model", net]
    cases: list[tuple[list[str], int, str]] = [
        (base, 2, "nowhere to write to: give -o OUT.png, --html OUT.html, or both"),
        ([*base, "-o", "out.jpg"], 2, "-o out.jpg: the picture is a PNG"),
        ([*base, "-o", str(tmp_path / "none/out.png")], 1, "there is no folder"),
        ([*base, "--html", str(tmp_path)], 1, f"cannot write {tmp_path}: it is a folder"),
        ([*base, "-o", image], 2, f"{image} would be overwritten: choose another output"),
        ([*base, *out, "--html", out[1]], 2, f"{out[1]} would be overwritten: choose another output"),
        (
            [*base, *out, "--crop", "0", "0", "49", "10"],
            2,
            "--crop 0 0 49 10 reaches beyond the upscaled 24 of 48x48",
        ),
        ([*base, *out, "--crop", "0", "-1", "4", "10"], 2, "--crop 0 -1 4 10: X Y must be 0 or more"),
        ([*base, *out, "--model", other], 2, "networks of one scale can be compared, not x2 x2, x3 x3"),
        ([*base, *out, "--model", net], 2, "two networks are called"),
        ([image, *out, "--model", f"a={net}", "--model", f"a={other}"], 2, "two networks are called a: give"),
        (
            [*base, *out, "--gt", large],
            1,
            f"{large} of 60x60 pixels is not 2 times {image} of 24x24: expected 48x48",
        ),
        ([*base, *out, "--gt", large, large], 2, "--gt names 2 files for 1 images"),
        ([*base, *out, "--tile", "0"], 2, "--crops, --tile and --html-limit must be above 0"),
        ([*base, *out, "--device", "cuda:99"], 2, "device 'cuda:99' cannot be used here"),
        ([*base, *out, "--device", "toaster"], 2, "device 'toaster' cannot be used here"),
        ([str(cut), *out, "--model", net], 1, f"{cut} is damaged or not an image"),
        ([str(tmp_path), *out, "--model", net], 2, f"{tmp_path} cannot be read: Is a directory"),
        (
            [str(tmp_path / "no.png"), *out, "--model", net],
            2,
            "no.png cannot be read: No such file or directory",
        ),
        ([image, *out, "--model", str(tmp_path / "no.pth")], 2, "no checkpoint at"),
        ([image, *out, "--model", str(cut)], 1, "damaged"),
        ([image, *out, "--model", "=x"], 2, "--model =x: give FILE or NAME=FILE"),
        ([image, *out, "--model", str(broken)], 1, f"{broken}: the network's output is not finite"),
        (
            [*base, "--html", str(tmp_path / "o.html"), "--html-limit", "0.001"],
            2,
            "over the limit of 0.001 MB",
        ),
    ]
    before = sorted(tmp_path.rglob("*"))
    for arguments, status, message in cases:
        assert main(["compare", *arguments]) == status, arguments
        # A bar that shows progress may stand before it.
        lines = capsys.readouterr().err.splitlines()
        (error,) = (line for line in lines if line and not line.startswith("compare:"))
        assert error.startswith("lmlt compare: error: ") and message in error
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["compare", *base, *out, "--model", same]) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path.name}/x2" in printed and "again/x2" in printed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, image = checkpoint(tmp_path / "net.pth"), save(tmp_path / "image.png", photo(24, 24))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert main(["compare", str(image), "--model", str(net), "-o", str(closed / "out.png")]) == 1
    assert f"cannot write {closed / 'out.png'}: Permission denied" in capsys.readouterr().err


def test_a_pipe_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert main(["compare", str(tmp_path / "pipe.png"), "--model", "net.pth", "-o", "out.png"]) == 2
    assert "pipe.png is a pipe, not a file" in capsys.readouterr().err


def test_a_name_that_a_page_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff.png")
    net, image = checkpoint(tmp_path / "net.pth"), save(tmp_path / name, photo(24, 24))
    command = ["compare", str(image), "--model", str(net)]
    assert main([*command, "-o", str(tmp_path / "out.png")]) == 0
    assert r"\udcff" in capsys.readouterr().out
    assert main([*command, "--html", str(tmp_path / "out.html")]) == 1
    assert r"\udcff.png has a name that is no UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["IMAGE", "--model"])
def test_usage(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"IMAGE": ["compare", "--model", "a.pth"], "--model": ["compare", "image.png"]}[missing]
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2
    assert missing in capsys.readouterr().err


class Hungry(LMLT):
    """Wants a petabyte."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.empty(2**48).sum()


def test_lack_of_memory_is_said_in_one_line() -> None:
    model = LoadedModel("hungry", Path("hungry.pth"), Hungry(8, 1, 1.5, 2).eval(), None)
    with pytest.raises(
        DataError, match="hungry needs more memory than there is for 30x20 pixels: give --tile"
    ):
        model.upscale(photo(30, 20))
