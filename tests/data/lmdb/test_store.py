"""LMDBs that were not copied whole, in which reading would end the process, and lists that lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lmdb
import pytest
import yaml
from helpers.small.options import paired_options, save_image

from lmlt_arch.cli import main
from lmlt_arch.data.listing import DatasetError
from lmlt_arch.data.lmdb.environments import READING, Environments
from lmlt_arch.data.lmdb.store import StoreError, check_is_whole
from lmlt_arch.data.pairs import lmdb_keys


@pytest.fixture(params=[1, 2, 5])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An LMDB written in so many transactions, the last of which has either of the two records."""
    home = tmp_path / "gt.lmdb"
    with lmdb.open(str(home), map_size=2**22) as environment:
        for turn in range(request.param):
            with environment.begin(write=True) as rows:
                for key in ("a", "b", "c"):
                    rows.put(key.encode(), os.urandom(9000 * (turn + 1)))
        last, page = environment.info()["last_pgno"], environment.stat()["psize"]
    (home / "meta_info.txt").write_text("a.png (4,4,3) 1\n")
    assert (home / "data.mdb").stat().st_size == (last + 1) * page
    return home


def test_a_whole_one(folder: Path) -> None:
    check_is_whole(folder)
    check_is_whole(folder / "data.mdb")
    assert Environments().get(str(folder), READING).stat()["entries"] == 3


@pytest.mark.parametrize("left", [5000, 12000, -4096, -1])
def test_one_that_is_cut_off(folder: Path, left: int) -> None:
    file = folder / "data.mdb"
    whole = file.stat().st_size
    os.truncate(file, left if left > 0 else whole + left)
    words = rf"gt\.lmdb.data\.mdb is cut off: \d+ bytes of {whole}\. Copy it again, or make it again"
    for use in (check_is_whole, lambda f: Environments().get(str(f), READING)):
        with pytest.raises(StoreError, match=words):
            use(folder)
    with pytest.raises(DatasetError, match="is cut off"):
        lmdb_keys(folder)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 9000])
def test_what_is_no_lmdb_is_left_to_lmdb(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    check_is_whole(tmp_path)
    with pytest.raises(lmdb.Error):
        Environments().get(str(tmp_path), READING)


@pytest.fixture(scope="module")
def lmdbs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of one image as LMDBs, of PNG files and raw."""
    home = tmp_path_factory.mktemp("lmdbs")
    save_image(home / "gt/a.png", 48, 40)
    prepare = ["prepare", str(home / "gt"), "-o", str(home), "--scale", "2", "--lmdb", "--raw"]
    assert main([*prepare, "--workers", "0"]) == 0
    return home


NO_TEXT = "which is to list the images, is no text in UTF-8: save it as that"
NO_SIZE = "does not end in '(height,width,3) uint8 32': make it again"
TOO_LARGE = "is no size of an image in data.mdb: make it again"
LISTS: list[tuple[bytes, str]] = [
    (b"\xe9.raw (40,48,3) uint8 32\n", NO_TEXT),
    ("a.raw (40,48,3) uint8 32\n".encode("utf-16"), NO_TEXT),
    ("a.raw (\u00b2,48,3) uint8 32\n".encode(), NO_SIZE),
    ("a.raw (\u0664\u0660,48,3) uint8 32\n".encode(), NO_SIZE),
    (b"a.raw (" + b"9" * 5000 + b",48,3) uint8 32\n", NO_SIZE),
    (b"a.raw (-40,48,3) uint8 32\n", NO_SIZE),
    (b"a.raw (4.5,48,3) uint8 32\n", NO_SIZE),
    (b"a.raw (0,0,3) uint8 32\n", TOO_LARGE),
    (b"a.raw (9000000,9000000,3) uint8 32\n", TOO_LARGE),
    (b"a.raw (40,48,1) uint8 32\n", TOO_LARGE),
    (b"a.raw (40,36,4) uint8 32\n", TOO_LARGE),
    ("\u00e1.raw (40,48,3) uint8 32\n".encode(), "begins with no key: make it again"),
]


@pytest.mark.parametrize(
    ("text", "said"), LISTS, ids=[text[:20].decode(errors="replace") for text, _ in LISTS]
)
def test_lists_that_are_no_text_or_lie(
    lmdbs: Path, tmp_path: Path, text: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opt = paired_options(tmp_path)
    del opt["datasets"]["val"], opt["val"]
    for kind, ending, line in (
        ("PairedCropDataset", "_raw.lmdb", text),
        ("PairedImageDataset", ".lmdb", text.replace(b".raw", b".png").replace(b") uint8 32", b") 1")),
    ):
        roots = {"gt": f"gt_HR_mod2{ending}", "lq": f"gt_LR_bicubic_X2{ending}"}
        for key, name in roots.items():
            shutil.copytree(lmdbs / name, tmp_path / kind / name)
            opt["datasets"]["train"][f"dataroot_{key}"] = str(tmp_path / kind / name)
        (tmp_path / kind / roots["gt"] / "meta_info.txt").write_bytes(line)
        opt["datasets"]["train"] |= {"type": kind, "io_backend": {"type": "lmdb"}, "batch_size_per_gpu": 1}
        file = tmp_path / "x.yml"
        file.write_text(yaml.safe_dump(opt))
        status = main(["check", "-opt", str(file), "--no-timing"])
        if kind == "PairedCropDataset" or said == NO_TEXT:
            assert status == 1
            assert f"{kind}/{roots['gt']}/meta_info.txt" in (out := capsys.readouterr().out)
            assert said in out
        else:  # a PNG file says its size itself
            assert status == (not text.startswith(b"a"))


def test_a_list_without_images(lmdbs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(lmdbs / "gt_HR_mod2.lmdb", tmp_path / "x.lmdb")
    (tmp_path / "x.lmdb/meta_info.txt").write_bytes(b"\n")
    assert main(["raw", str(tmp_path / "x.lmdb"), "-o", str(tmp_path / "y.lmdb")]) == 2
    assert "no images in" in capsys.readouterr().err
    assert not (tmp_path / "y.lmdb").exists()
