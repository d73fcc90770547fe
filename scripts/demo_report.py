"""Compare the demo's results with bicubic upscaling: a table, and the same crops side by side in a PNG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from basicsr.metrics import calculate_psnr, calculate_ssim
from PIL import Image, ImageDraw

from lmlt_arch.data.imresize import imresize

SCALE = 4
CROP = 160  # side of the compared crops in HR pixels
ZOOM = 2
MARGIN = 24  # for the captions

Pixels = npt.NDArray[np.uint8]


def read(path: Path) -> Pixels:
    """An RGB image, (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def scores(image: Pixels, gt: Pixels) -> tuple[float, float]:
    """PSNR in dB and SSIM on Y, `SCALE` border pixels left out, by BasicSR's own functions."""
    # BasicSR reads BGR.
    pair = {"img": image[..., ::-1], "img2": gt[..., ::-1], "crop_border": SCALE, "test_y_channel": True}
    return calculate_psnr(**pair), calculate_ssim(**pair)


def liveliest_crop(gt: Pixels) -> tuple[int, int]:
    """Top left corner of the crop with the most detail."""
    y_gradient, x_gradient = np.gradient(gt.mean(-1))
    energy = np.abs(y_gradient) + np.abs(x_gradient)
    corners = [
        (top, left)
        for top in range(0, gt.shape[0] - CROP + 1, 32)
        for left in range(0, gt.shape[1] - CROP + 1, 32)
    ]
    return max(corners, key=lambda c: float(energy[c[0] : c[0] + CROP, c[1] : c[1] + CROP].mean()))


def picture(rows: list[list[tuple[str, Pixels]]]) -> Image.Image:
    """Captioned crops, a row for each photograph."""
    cell = CROP * ZOOM
    sheet = Image.new("RGB", (cell * len(rows[0]), (cell + MARGIN) * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, (caption, crop) in enumerate(row):
            upscaled = Image.fromarray(crop).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(upscaled, (x * cell, y * (cell + MARGIN) + MARGIN))
            draw.text((x * cell + 6, y * (cell + MARGIN) + 6), caption, fill="black")
    return sheet


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True, help="name for the captions")
    parser.add_argument("--gt", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--lq", type=Path, required=True, help="folder of the same, a scale smaller")
    parser.add_argument("--suffix", default="", help="what the names of LQ images have at their end")
    parser.add_argument("--results", type=Path, required=True, help="images that test.py saved")
    parser.add_argument(
        "--photo", type=Path, nargs=2, metavar=("LQ", "RESULT"), help="a photograph without ground truth"
    )
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument(
        "--least-gain", required=True, help="PSNR over bicubic in dB that is demanded, or none"
    )
    return parser.parse_args()


def side_by_side(
    name: str, lq: Pixels, bicubic: tuple[str, Pixels], result: tuple[str, Pixels], gt: Pixels | None
) -> list[tuple[str, Pixels]]:
    """The crop with the most detail: LQ, bicubic, result and, where there is one, ground truth."""
    top, left = liveliest_crop(bicubic[1] if gt is None else gt)
    cells = [(f"{name}: LQ", lq.repeat(SCALE, 0).repeat(SCALE, 1)), bicubic, result]
    cells += [("no ground truth", np.full_like(bicubic[1], 255)) if gt is None else ("GT", gt)]
    return [(caption, image[top : top + CROP, left : left + CROP]) for caption, image in cells]


def main() -> int:
    """Print the table, write the picture; 1 if the gain is below the required one."""
    args = arguments()
    table, rows = [], []
    for gt_path in sorted(args.gt.glob("*.png")):
        lq = read(args.lq / f"{gt_path.stem}{args.suffix}.png")
        gt = read(gt_path)[: lq.shape[0] * SCALE, : lq.shape[1] * SCALE]
        bicubic = imresize(lq, SCALE)
        (result_path,) = args.results.glob(f"{gt_path.stem}{args.suffix}_*.png")
        result = read(result_path)
        by_bicubic, by_network = scores(bicubic, gt), scores(result, gt)
        table.append((gt_path.stem, by_bicubic, by_network))
        captions = (f"bicubic {by_bicubic[0]:.2f} dB", f"{args.network} {by_network[0]:.2f} dB")
        rows.append(side_by_side(gt_path.stem, lq, (captions[0], bicubic), (captions[1], result), gt))
    if args.photo:
        lq, result = (read(path) for path in args.photo)
        bicubic = imresize(lq, SCALE)
        rows.append(
            side_by_side(
                f"{args.photo[0].stem} as it is", lq, ("bicubic", bicubic), (args.network, result), None
            )
        )
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    picture(rows).save(args.picture)

    bicubic_mean, network_mean = (np.mean([line[i] for line in table], axis=0) for i in (1, 2))
    table.append(("mean", tuple(bicubic_mean), tuple(network_mean)))
    print(f"\n{'held out':<12}{'bicubic':>18}{args.network:>18}{'gain':>10}")
    for name, (psnr_0, ssim_0), (psnr_1, ssim_1) in table:
        print(
            f"{name:<12}{psnr_0:>9.2f} /{ssim_0:.4f}{psnr_1:>10.2f} /{ssim_1:.4f}{psnr_1 - psnr_0:>+7.2f} dB"
        )
    print(f"PSNR in dB and SSIM on Y. Side by side: {args.picture}")

    gain = float(network_mean[0] - bicubic_mean[0])
    if args.least_gain == "none":
        print("So short a training is not expected to beat bicubic; no gain is demanded of it.")
        return 0
    if gain < float(args.least_gain):
        print(
            f"FAILED: the gain of {gain:.2f} dB is below the {args.least_gain} dB demanded", file=sys.stderr
        )
        return 1
    print(f"PASSED: {gain:.2f} dB over bicubic, at least {args.least_gain} dB were demanded.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
