"""What `lmlt prepare` refuses, names and leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.prepared import Photos, mod_crop, prepare
from PIL import Image

from lmlt_arch.cli import main


def test_all_damaged_images_are_named_and_the_rest_is_kept(
    photos: Path, photo_arrays: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (photos / "coffee.png").read_bytes()
    (photos / "cut.png").write_bytes(good[: len(good) // 2])
    (photos / "deeper").mkdir()
    (photos / "deeper/text.jpg").write_text("hello")
    Image.new("RGB", (3, 90)).save(photos / "narrow.png")
    transparent = Image.fromarray(photo_arrays["coffee"])
    transparent.putalpha(9)
    transparent.save(photos / "ghost.png")
    assert prepare(photos, "--scale", 4, "--lmdb") == 1
    shown = capsys.readouterr()
    for name, reason in [
        ("cut.png", "damaged"),
        ("deeper/text.jpg", "damaged"),
        ("narrow.png", "3x90"),
        ("ghost.png", "transparent"),
    ]:
        assert any(name in line and reason in line for line in shown.err.splitlines()), name
    assert "4 files could not be used" in shown.err
    root = photos.parent
    assert len(list((root / "Photos_HR_mod4").iterdir())) == 4
    assert not list(root.glob("*.lmdb"))
    assert not list(root.glob("meta_info*"))

    for name in ("cut.png", "deeper/text.jpg", "ghost.png", "narrow.png"):
        (photos / name).unlink()
    assert prepare(photos, "--scale", 4, "--lmdb") == 0
    assert "0 images done, 4 were done before" in capsys.readouterr().out
    assert len((root / "Photos_HR_mod4.lmdb/meta_info.txt").read_text().splitlines()) == 4


def test_mismatching_pairs_are_all_named(
    photos: Path, photo_arrays: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    given = photos.parent / "LQ"
    given.mkdir()
    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(mod_crop(photo_arrays[name], 4)[::4, ::4]).save(given / f"{name}.png")
    Image.fromarray(photo_arrays["coffee"][::2, ::2]).save(given / "coffee.png")
    Image.fromarray(photo_arrays["coffee"]).save(given / "stranger.png")
    assert prepare(photos, "--scale", 4, "--lq", given) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("rocket.png" in line and "has no LQ image" in line for line in lines)
    assert any("stranger.png" in line and "has no HR image" in line for line in lines)
    assert any("coffee.png" in line and "69x69" in line and "asks for 34x34" in line for line in lines)
    assert sorted(p.stem for p in (photos.parent / "Photos_HR_mod4").iterdir()) == ["astronaut", "chelsea"]


@pytest.mark.parametrize(
    ("words", "args"),
    [
        ("multiple of 12 to suit every scale: try 96", ["--scale", 3, 4, "--crop-size", 100]),
        ("--step 25 must be a multiple of 4", ["--scale", 4, "--crop-size", 64, "--step", 25]),
        ("needs --crop-size", ["--scale", 4, "--step", 24]),
        ("--mod-crop 6", ["--scale", 4, "--mod-crop", 6]),
        ("--scale takes", ["--scale", 0]),
        ("--scale takes", ["--scale", 2, 2]),
        ("0 to 9", ["--scale", 2, "--compression-level", 10]),
        ("no such folder: nowhere", ["--scale", 2, "--lq", "nowhere"]),
        ("one folder for each scale", ["--scale", 2, 4, "--lq", "."]),
        ("plain name", ["--scale", 2, "--name", "a/b"]),
        ("plain name", ["--scale", 2, "--lq-name", "../../b"]),
        ("not be negative", ["--scale", 2, "--crop-size", 64, "--thresh-size", -1]),
    ],
)
def test_usage_errors(
    photos: Path, capsys: pytest.CaptureFixture[str], words: str, args: list[object]
) -> None:
    assert prepare(photos, *args) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert [p.name for p in photos.parent.iterdir()] == [photos.name]


def test_other_files_are_counted_and_pipes_not_opened(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.gif", "b.gif", "Thumbs.db"):
        (photos / name).touch()
    assert prepare(photos, "--scale", 2) == 0
    kinds = f"lmlt prepare: {photos}: passed over, being of other kinds: 1 .db, 2 .gif\n"
    assert kinds in capsys.readouterr().err
    os.mkfifo(photos / "pipe.png")
    assert prepare(photos, "--scale", 2) == 1
    said = f"lmlt prepare: error: {photos / 'pipe.png'} is a pipe, not a file: move it away\n"
    assert capsys.readouterr().err == said


def test_names_that_are_too_long_do_not_stop_the_rest(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (48, 48)).save(photos / f"{250 * 'n'}.png")
    count = len([*photos.iterdir()]) - 1
    assert prepare(photos, "--scale", 2) == 1
    said = capsys.readouterr()
    assert f"{250 * 'n'}.png: its outputs' names would be too long, 256 bytes and not 255: rename" in said.err
    assert said.out.startswith(f"{count} images done")


def test_inputs_are_safe_from_outputs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p.name: p.read_bytes() for p in photos.iterdir()}
    assert main(["prepare", str(photos), "-o", str(photos), "--scale", "4"]) == 2
    assert "lie in each other" in capsys.readouterr().err
    own = photos.parent / "mine_HR_mod4"
    own.mkdir()
    (own / "precious.png").write_bytes(b"mine")
    assert prepare(photos, "--scale", 4, "--name", "mine", "--overwrite") == 2
    assert "was not made here" in capsys.readouterr().err
    (photos.parent / "other_HR_mod4.lmdb").mkdir()
    assert prepare(photos, "--scale", 4, "--name", "other", "--lmdb") == 2
    assert "was not made here" in capsys.readouterr().err
    assert (own / "precious.png").read_bytes() == b"mine"
    assert {p.name: p.read_bytes() for p in photos.iterdir()} == before


def test_clashing_names_and_empty_folders(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "x").mkdir()
    for name in ("x_a.png", "x/a.jpg"):
        Image.new("RGB", (48, 48)).save(photos / name)
    assert prepare(photos, "--scale", 4) == 2
    error = capsys.readouterr().err
    assert "x/a.jpg" in error
    assert "x_a.png" in error
    (photos.parent / "empty").mkdir()
    assert prepare(photos.parent / "empty", "--scale", 4) == 2
    assert "no PNG" in capsys.readouterr().err
