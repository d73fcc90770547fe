"""Compare the demo's results with bicubic enlargement: a table, and the same crops side by side in a PNG."""

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
            enlarged = Image.fromarray(crop).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (x * cell, y * (cell + MARGIN) + MARGIN))
            draw.text((x * cell + 6, y * (cell + MARGIN) + 6), caption, fill="black")
    return sheet


def main() -> int:
    """Print the table, write the picture; 1 if the gain is smaller than demanded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heldout", type=Path, required=True, help="folder that `lmlt prepare` wrote below")
    parser.add_argument("--results", type=Path, required=True, help="images that test.py saved")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument(
        "--least-gain", required=True, help="PSNR over bicubic in dB that is demanded, or none"
    )
    args = parser.parse_args()

    table, rows = [], []
    for gt_path in sorted((args.heldout / "heldout_HR_mod4").glob("*.png")):
        gt = read(gt_path)
        lq = read(args.heldout / "heldout_LR_bicubic" / f"X{SCALE}" / f"{gt_path.stem}x{SCALE}.png")
        bicubic = imresize(lq, SCALE)
        (result_path,) = args.results.glob(f"{gt_path.stem}x{SCALE}_*.png")
        result = read(result_path)
        by_bicubic, by_network = scores(bicubic, gt), scores(result, gt)
        table.append((gt_path.stem, by_bicubic, by_network))
        top, left = liveliest_crop(gt)
        window = np.s_[top : top + CROP, left : left + CROP]
        replicated = lq.repeat(SCALE, 0).repeat(SCALE, 1)
        rows.append(
            [
                (f"{gt_path.stem}: LQ", replicated[window]),
                (f"bicubic {by_bicubic[0]:.2f} dB", bicubic[window]),
                (f"LMLT {by_network[0]:.2f} dB", result[window]),
                ("GT", gt[window]),
            ]
        )
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    picture(rows).save(args.picture)

    bicubic_mean, network_mean = (np.mean([line[i] for line in table], axis=0) for i in (1, 2))
    table.append(("mean", tuple(bicubic_mean), tuple(network_mean)))
    print(f"\n{'held out':<12}{'bicubic':>18}{'LMLT':>18}{'gain':>10}")
    for name, (psnr_0, ssim_0), (psnr_1, ssim_1) in table:
        print(
            f"{name:<12}{psnr_0:>9.2f} /{ssim_0:.4f}{psnr_1:>10.2f} /{ssim_1:.4f}{psnr_1 - psnr_0:>+7.2f} dB"
        )
    print(f"PSNR in dB and SSIM on Y. Side by side: {args.picture}")

    gain = float(network_mean[0] - bicubic_mean[0])
    if args.least_gain == "none":
        print("So short a training is not expected to beat bicubic; nothing is demanded of it.")
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
