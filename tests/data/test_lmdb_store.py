"""LMDBs that were not copied whole, in which reading would end the process."""

import os
from pathlib import Path

import lmdb
import pytest

from lmlt_arch.data.files import DataSetError
from lmlt_arch.data.lmdb_environments import READING, Environments
from lmlt_arch.data.lmdb_store import StoreError, check_is_whole
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
    words = rf"gt\.lmdb.data\.mdb is cut off: \d+ bytes of {whole}\. Copy it again, or make it anew"
    for use in (check_is_whole, lambda f: Environments().get(str(f), READING)):
        with pytest.raises(StoreError, match=words):
            use(folder)
    with pytest.raises(DataSetError, match="is cut off"):
        lmdb_keys(folder)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 9000])
def test_what_is_no_lmdb_is_left_to_lmdb(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    check_is_whole(tmp_path)
    with pytest.raises(lmdb.Error):
        Environments().get(str(tmp_path), READING)
