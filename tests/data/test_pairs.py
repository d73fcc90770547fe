"""Pairs found by the names of their images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lmlt_arch.data.listing import DatasetError
from lmlt_arch.data.pairs import match_names, pairs_of_folders, pairs_of_list


@pytest.mark.parametrize(
    ("gt", "lq", "template", "pairs"),
    [
        ("a.png b.png", "b.png a.png", "{}", "a.png=a.png b.png=b.png"),
        ("a.png b.png", "a.jpg b.WEBP", "{}", "a.png=a.jpg b.png=b.WEBP"),
        ("a.png b.png", "ax4.png b_X4.jpg", "{}", "a.png=ax4.png b.png=b_X4.jpg"),
        ("a.png b.png", "ax4.png b.png", "{}", "a.png=ax4.png b.png=b.png"),
        ("a.png b.png", "ax4.png bx4.jpeg", "{}x4", "a.png=ax4.png b.png=bx4.jpeg"),
        ("a.v2.png a.v3.png", "a.v3.jpg a.v2.jpg", "{}", "a.v2.png=a.v2.jpg a.v3.png=a.v3.jpg"),
        ("a ax4", "ax4 a", "{}", "a=a ax4=ax4"),  # keys of an LMDB
        ("a b", "ax4 bx4", "{}", "a=ax4 b=bx4"),
        ("a.png", "a.png a.jpg", "{}", "a.png=a.png"),
        ("a.jpg", "a.png a.bmp", "{}", ""),  # which of the two?
        ("a.png", "ax2.png ax4.png", "{}", ""),
        ("a.png", "a.png", "{}x4", ""),
        ("a.png a.jpg", "a.webp", "{}", "a.png=a.webp"),  # a partner of one
        ("a.png", "ab.png", "{}", ""),
    ],
)
def test_names(gt: str, lq: str, template: str, pairs: str) -> None:
    found = match_names(gt.split(), lq.split(), template)
    assert " ".join(f"{pair.gt}={pair.lq}" for pair in found.pairs) == pairs
    assert {*found.gt_alone} == {*gt.split()} - {pair.gt for pair in found.pairs}
    assert {*found.lq_alone} == {*lq.split()} - {pair.lq for pair in found.pairs}


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt"):
            (folder / name).write_text("not an image")
        else:
            Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    return folder


def test_what_is_no_image_does_not_count(tmp_path: Path) -> None:
    gt = fill(tmp_path / "gt", "a.png", "b.ppm", "README.txt", "sub/c.png", ".hidden.png")
    lq = fill(tmp_path / "lq", "a.jpg", "b.png")
    (lq / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    names = [(Path(pair.gt).name, Path(pair.lq).name) for pair in pairs_of_folders(gt, lq)]
    assert names == [("a.png", "a.jpg"), ("b.ppm", "b.png")]


def test_errors_name_three_images_and_the_fix(tmp_path: Path) -> None:
    gt = fill(tmp_path / "gt", *(f"{number}.png" for number in range(5)))
    lq = fill(tmp_path / "lq", "0.png")
    with pytest.raises(
        DatasetError, match=r"has 5 images, .* 1; .*: 1\.png, 2\.png, 3\.png and 1 more\. Add"
    ):
        pairs_of_folders(gt, lq)
    with pytest.raises(DatasetError, match=r"without ground truth: 1\.png"):
        pairs_of_folders(lq, gt, None)
    other = fill(tmp_path / "other", *(f"{number}x4.png" for number in range(5)))
    with pytest.raises(DatasetError, match=r"filename_tmpl: '{}x2' says"):
        pairs_of_folders(gt, other, "{}x2")
    for template in ("{}{}", "{name}", "{", "x4", "{0.a}", "{:>99999999999}", "{:9999}", "{0!z}"):
        with pytest.raises(DatasetError, match=r"filename_tmpl: .* must hold {} for the name"):
            pairs_of_folders(gt, other, template)
    with pytest.raises(DatasetError, match=r"there are no images in .*empty"):
        pairs_of_folders(gt, fill(tmp_path / "empty", "README.txt"))
    with pytest.raises(DatasetError, match=r"no folder .*nowhere \(seen from"):
        pairs_of_folders(gt, tmp_path / "nowhere")


def test_lists_as_people_write_them(tmp_path: Path) -> None:
    gt = fill(tmp_path / "gt", "a.png", "my photo.png", "sub/c.png", "d.png")
    lq = fill(tmp_path / "lq", "ax4.png", "my photo.jpg", "c.png", "d.png")
    info = tmp_path / "meta_info.txt"
    text = "a.png (4,4,3)\r\n# these too:\r\nmy photo.png (4,4,3)\r\nsub/c.png\r\nd.jpg (4,4,3)\r\n\r\n\r\n"
    info.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = [(Path(pair.gt).name, Path(pair.lq).name) for pair in pairs_of_list(gt, lq, info)]
    expected = [
        ("a.png", "ax4.png"),
        ("my photo.png", "my photo.jpg"),
        ("c.png", "c.png"),
        ("d.png", "d.png"),
    ]
    assert sorted(found) == sorted(expected)
    info.write_text("a.png\nz.png (4,4,3)\n")
    with pytest.raises(DatasetError, match=r"lists what is not there: .*z\.png\."):
        pairs_of_list(gt, lq, info)
    (lq / "ax4.png").unlink()
    info.write_text("a.png\n")
    with pytest.raises(DatasetError, match=r"a partner of a\.png in .*lq"):
        pairs_of_list(gt, lq, info)
    info.write_text("\n")
    with pytest.raises(DatasetError, match="lists no images"):
        pairs_of_list(gt, lq, info)
    with pytest.raises(DatasetError, match=r"nowhere\.txt, which is to list the images, cannot be read"):
        pairs_of_list(gt, lq, tmp_path / "nowhere.txt")
    info.write_text("a.png\n", encoding="utf-16")
    with pytest.raises(DatasetError, match="no text in UTF-8"):
        pairs_of_list(gt, lq, info)
