"""`lmlt check`: what it finds in deliberately broken LMDBs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.check_command import Write, check, cut, findings

from lmlt_arch.cli import main
from lmlt_arch.data.lmdb.store import LmdbImage, write_lmdb


@pytest.fixture
def in_lmdb(paired: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    for part, shape in (("gt", (40, 48, 3)), ("lq", (20, 24, 3))):
        images = [
            LmdbImage(key=path.stem, path=path, shape=shape, size=path.stat().st_size)
            for path in sorted((tmp_path / part).iterdir())
        ]
        write_lmdb(tmp_path / f"{part}.lmdb", images, compression_level=1, advance=lambda: None)
        paired["datasets"]["train"][f"dataroot_{part}"] = str(tmp_path / f"{part}.lmdb")
    paired["datasets"]["train"]["io_backend"] = {"type": "lmdb"}
    del paired["datasets"]["val"]
    return paired


@pytest.fixture
def in_raw_lmdb(in_lmdb: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    train = in_lmdb["datasets"]["train"]
    assert main(["raw", train["dataroot_gt"], train["dataroot_lq"]]) == 0
    roots = {f"dataroot_{part}": str(tmp_path / f"{part}_raw.lmdb") for part in ("gt", "lq")}
    in_lmdb["datasets"]["train"] = {**train, **roots, "type": "PairedCropDataset"}
    return in_lmdb


def test_raw_lmdb(
    in_raw_lmdb: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(write(in_raw_lmdb)) == 0
    train = in_raw_lmdb["datasets"]["train"]
    capsys.readouterr()

    in_raw_lmdb["datasets"]["train"] = {**train, "type": "PairedImageDataset"}
    found = findings(write(in_raw_lmdb), capsys)
    assert len(found) == 2
    assert "dataroot_gt: " in found[0]
    assert "holds raw pixels: write type: PairedCropDataset" in found[0]

    png = str(tmp_path / "gt.lmdb")
    in_raw_lmdb["datasets"]["train"] = {**train, "dataroot_gt": png}
    (one,) = findings(write(in_raw_lmdb), capsys)
    assert f"holds PNG files: make a raw LMDB of it by `lmlt raw {png}`" in one

    in_raw_lmdb["datasets"]["train"] = {**train, "io_backend": {"type": "disk"}}
    assert any(
        "PairedCropDataset reads lmdb only; got 'disk'" in one for one in findings(write(in_raw_lmdb), capsys)
    )

    data = Path(train["dataroot_lq"]) / "data.mdb"
    data.write_bytes(data.read_bytes()[:-4096])
    in_raw_lmdb["datasets"]["train"] = train
    (one,) = findings(write(in_raw_lmdb), capsys)
    assert "data.mdb is cut off" in one


def empty_lmdb(folder: Path) -> None:
    shutil.rmtree(folder)
    write_lmdb(folder, [], compression_level=1, advance=lambda: None)


BROKEN_LMDB: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "gt.lmdb/meta_info.txt").unlink(), "has no meta_info.txt"),
    (lambda f: (f / "gt.lmdb/data.mdb").unlink(), "is no LMDB: it has no data.mdb"),
    (lambda f: (f / "gt.lmdb/data.mdb").write_bytes(b"x" * 9999), "cannot be read as LMDB"),
    (lambda f: cut(f / "gt.lmdb/data.mdb"), "data.mdb is cut off: "),
    (lambda f: empty_lmdb(f / "gt.lmdb"), "there are no images in"),
    (lambda f: shutil.rmtree(f / "gt.lmdb"), "there is no LMDB folder"),
    (
        lambda f: (f / "gt.lmdb/meta_info.txt").write_text("7.png (40,48,3) 1\n"),
        "lacks 7, which its meta_info",
    ),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN_LMDB)
def test_broken_lmdb(
    in_lmdb: dict[str, Any],
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(tmp_path)
    (found,) = findings(write(in_lmdb), capsys)
    assert "datasets: train: dataroot_gt: " in found
    assert message in found


def test_good_lmdb(in_lmdb: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(write(in_lmdb), "--all") == 0
    assert "nothing wrong found" in capsys.readouterr().out


def test_storage_of_another_kind_than_the_file_says(
    in_lmdb: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = in_lmdb["datasets"]["train"]
    in_lmdb["datasets"]["train"] = train | {"io_backend": {"type": "disk"}}
    (found,) = findings(write(in_lmdb), capsys)
    assert "gt.lmdb is an LMDB: write io_backend: type: lmdb" in found
    (tmp_path / "gt").rename(tmp_path / "photos.lmdb")
    in_lmdb["datasets"]["train"] = train | {"dataroot_gt": str(tmp_path / "photos.lmdb")}
    (found,) = findings(write(in_lmdb), capsys)
    assert (
        "photos.lmdb is no LMDB: it has no data.mdb. For image files, write io_backend: type: disk" in found
    )


def test_lmdb_whose_keys_carry_the_scale(
    in_lmdb: dict[str, Any], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((tmp_path / "lq").iterdir())
    images = [
        LmdbImage(key=f"{path.stem}x2", path=path, shape=(20, 24, 3), size=path.stat().st_size)
        for path in files
    ]
    folder = tmp_path / "marked.lmdb"
    write_lmdb(folder, images, compression_level=1, advance=lambda: None)
    in_lmdb["datasets"]["train"]["dataroot_lq"] = str(folder)
    assert check(write(in_lmdb)) == 0
    listing = folder / "meta_info.txt"
    listing.write_text(listing.read_text() + "\n")
    assert check(write(in_lmdb)) == 0
    assert "filename_tmpl" not in capsys.readouterr().out
