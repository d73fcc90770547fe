"""What `lmlt upscale` refuses: each with one line, and with nothing written."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

Command = Callable[..., tuple[int, str, str]]


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch was_executed",)


def bad_inputs() -> Iterator[tuple[str, Callable[[Path], Any], list[str], int, str]]:
    """A name, what is done to the folder, what is typed beside the usual, the exit status, what is said."""
    ok, model = ["in/a.png", "-o", "out"], ["--model", "net.pth"]

    def write(name: str, data: bytes | str) -> Callable[[Path], Any]:
        return lambda here: (here / name).write_bytes(data.encode() if isinstance(data, str) else data)

    def cut(name: str, source: str, length: int) -> Callable[[Path], Any]:
        return lambda here: (here / name).write_bytes((here / source).read_bytes()[:length])

    def weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
        def do(here: Path) -> None:
            content = torch.load(here / "net.pth")
            torch.save(change(content), here / "net.pth")

        return do

    def nan(content: dict[str, Any]) -> dict[str, Any]:
        content["params_ema"]["to_feat.weight"][0, 0, 0, 0] = float("nan")
        return content

    nothing: Callable[[Path], Any] = lambda here: None  # noqa: E731
    yield "no input", nothing, ["nowhere.png", "-o", "out", *model], 2, "no such file or folder: nowhere.png"
    yield (
        "empty folder",
        lambda h: (h / "e").mkdir(),
        ["e", "-o", "out", *model],
        2,
        "no images or videos in e",
    )
    yield "pattern without match", nothing, ["in/*.bmp", "-o", "out", *model], 2, r"nothing matches in/\*.bmp"
    yield "truncated", cut("in/a.png", "in/a.png", 900), [*ok, *model], 1, "in/a.png is damaged"
    yield "truncated jpeg", cut("in/b.jpg", "in/b.jpg", 700), ["in/b.jpg", "-o", "out", *model], 1, "damaged"
    yield "zero bytes", write("in/a.png", ""), [*ok, *model], 1, "in/a.png is empty"
    yield "zeros", write("in/a.png", bytes(999)), [*ok, *model], 1, "in/a.png is not an image"
    yield "text as image", write("in/a.png", "hello"), [*ok, *model], 1, "in/a.png is not an image"
    yield (
        "a html page",
        write("in/x.jpg", "<html>"),
        ["in/x.jpg", "-o", "out", *model],
        1,
        "x.jpg is HTML: convert",
    )
    yield (
        "a pdf",
        write("in/x.pdf", "%PDF-1.4"),
        ["in/x.pdf", "-o", "out", *model],
        1,
        "in/x.pdf is PDF: convert",
    )
    yield "huge", nothing, [*ok, *model, "--max-pixels", "1199"], 1, "40 x 30 pixels, more than the 1,199"
    yield (
        "folder as file",
        lambda h: (h / "in/d.png").mkdir(),
        ["in/d.png", "-o", "out", *model],
        2,
        "no images or videos in in/d.png",
    )
    yield "animated", animate, ["in/m.webp", "-o", "out", *model], 1, "2 frames"
    yield "a gif", animate, ["in/m.gif", "-o", "out", *model], 1, "is GIF: convert it to"
    yield (
        "output is a folder",
        lambda h: (h / "out/a.png").mkdir(parents=True),
        [*ok, *model],
        1,
        "is a folder",
    )
    yield "output folder is a file", write("out", ""), [*ok, *model], 2, "out is a file: name a folder"
    yield "parent is a file", write("out", ""), ["in/a.png", "-o", "out/x.png", *model], 1, "cannot write out"
    yield "several into one", nothing, ["in", "-o", "x.png", *model], 2, "3 files cannot all become x.png"
    yield "onto itself", nothing, ["in", "-o", "in", *model], 2, "in/a.png would replace an input"
    yield "onto another", nothing, ["in/a.png", "-o", "in", *model], 2, "in/a.png would replace an input"
    yield (
        "two into one name",
        lambda h: shutil.copy(h / "in/a.png", h / "in/sub/a.png"),
        ["in/a.png", "in/sub/a.png", "-o", "out", *model],
        2,
        "in/a.png and in/sub/a.png would both become out/a.png",
    )
    yield (
        "two into one format",
        lambda h: shutil.copy(h / "in/b.jpg", h / "in/a.jpg"),
        ["in/a*", "-o", "out", "--format", "png", *model],
        2,
        "in/a.jpg and in/a.png would both become out/a.png",
    )
    yield (
        "names that differ in case",
        lambda h: shutil.copy(h / "in/a.png", h / "in/A.PNG"),
        ["in/[aA]*", "-o", "out", *model],
        2,
        "would both become",
    )
    yield (
        "transparent jpeg",
        transparent,
        ["in/t.png", "-o", "out", "--format", "jpg", *model],
        1,
        "transparent",
    )
    yield "deep jpeg", nothing, [*ok, "--format", "jpg", "--depth", "16", *model], 1, "JPEG holds 8 bits"
    yield (
        "too large for webp",
        nothing,
        [*ok, "--format", "webp", "--size", "20000x9", *model],
        1,
        "at most 16383",
    )
    yield "no network", nothing, [*ok, "--model", "none.pth"], 2, "no checkpoint at none.pth"
    yield "network is a folder", nothing, [*ok, "--model", "in"], 2, "no checkpoint at in"
    yield "image as network", nothing, [*ok, "--model", "in/b.jpg"], 1, "in/b.jpg: damaged"
    yield "truncated network", cut("net.pth", "net.pth", 5000), [*ok, *model], 1, "net.pth: damaged"
    yield "empty network", write("net.pth", ""), [*ok, *model], 1, "net.pth: damaged"
    yield (
        "another network",
        weights(lambda c: {"params": {"conv.weight": torch.ones(1)}}),
        [*ok, *model],
        1,
        "not a",
    )
    yield (
        "training state",
        weights(lambda c: {"iter": 3, "optimizers": []}),
        [*ok, *model],
        1,
        "training state",
    )
    yield "weights that are nan", weights(nan), [*ok, *model], 1, "not finite"
    yield (
        "missing weights",
        weights(lambda c: {"params": without_last(c)}),
        [*ok, *model],
        1,
        "incomplete|changed",
    )
    yield (
        "malicious",
        weights(lambda c: {"params": Malicious()}),
        [*ok, *model],
        1,
        "would run code is never loaded",
    )
    yield "no such key", nothing, [*ok, *model, "--key", "params_x"], 1, "has no key 'params_x'"
    yield "no such device", nothing, [*ok, *model, "--device", "cuda:9"], 2, "device 'cuda:9' cannot be used"
    yield "unknown device", nothing, [*ok, *model, "--device", "tpu9"], 2, "device 'tpu9' cannot be used"
    yield "small tiles", nothing, [*ok, *model, "--tile", "64"], 2, "more than half of a tile"
    yield "negative tiles", nothing, [*ok, *model, "--tile", "-4"], 2, "no size of tiles"
    yield "negative overlap", nothing, [*ok, *model, "--tile", "64", "--overlap", "-4"], 2, "at least 0"
    yield "no scale", nothing, [*ok, *model, "--outscale", "0"], 2, "scale must be above 0"
    yield "scale that is none", nothing, [*ok, *model, "--outscale", "big"], 2, "invalid float"
    yield "both sizes", nothing, [*ok, *model, "--outscale", "2", "--size", "9x9"], 2, "not allowed with"
    yield "size that is none", nothing, [*ok, *model, "--size", "19by9"], 2, "write 1920x1080, 1920x or x1080"
    yield "quality", nothing, [*ok, *model, "--quality", "101"], 2, "quality must lie in 1..100"
    yield "color", nothing, [*ok, *model, "--background", "white"], 2, "write FFFFFF"
    yield "format", nothing, [*ok, *model, "--format", "psd"], 2, "invalid choice: 'psd'"
    yield "suffix with a folder", nothing, [*ok, *model, "--suffix", "/../x"], 2, "--suffix /../x cannot be"
    yield (
        "format and name",
        nothing,
        ["in/a.png", "-o", "x.jpg", "--format", "png", *model],
        2,
        "does not go with",
    )
    yield (
        "image to video",
        nothing,
        ["in/a.png", "-o", "x.mp4", *model],
        2,
        "one is a video, the other an image",
    )
    yield "long name", nothing, [*ok, "--suffix", 300 * "x", *model], 1, "too long"
    yield "no output", nothing, ["in", *model], 2, "-o/--output"


def animate(here: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix in ("webp", "gif"):
        frames[0].save(here / "in" / f"m.{suffix}", save_all=True, append_images=frames[1:])


def transparent(here: Path) -> None:
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(here / "in" / "t.png")


def without_last(content: dict[str, Any]) -> dict[str, Any]:
    state = dict(content["params_ema"])
    state.pop("to_img.0.bias")
    return state


BAD_INPUTS = {name: case for name, *case in bad_inputs()}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input(lmlt: Command, here: Path, name: str) -> None:
    damage, typed, status, says = BAD_INPUTS[name]
    damage(here)
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    got, out, err = lmlt(*typed)
    assert got == status, out + err
    lines = [line for line in err.splitlines() if not line.startswith(("usage:", " "))]
    assert len(lines) == 1, err
    assert re.search(says, lines[0]), lines[0]
    after = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    assert after == before, "nothing is written, nothing half written"
