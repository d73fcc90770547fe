"""Write the photographs that come with scikit-image as two folders, one to train on, one held out."""

from __future__ import annotations

import argparse
from pathlib import Path

import skimage
from PIL import Image

TRAIN = (
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
HELDOUT = ("astronaut.png", "chelsea.png", "coffee.png")


def main() -> None:
    """Write OUTPUT/train_HR and OUTPUT/heldout_HR."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    source = Path(skimage.__file__).parent / "data"
    for folder, names in (("train_HR", TRAIN), ("heldout_HR", HELDOUT)):
        (output / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            with Image.open(source / name) as photo:
                photo.convert("RGB").save(output / folder / f"{Path(name).stem}.png", compress_level=1)
    print(f"{len(TRAIN)} photographs to train on and {len(HELDOUT)} held out, in {output}")


if __name__ == "__main__":
    main()
