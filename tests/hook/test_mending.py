"""The table of mends itself."""

from pathlib import Path

import pytest

from lmlt_arch.hook import mending, telling


def test_every_mend_gives_a_reason_and_has_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for each in mending.all_mends():
        assert len(each.reason) > 40, each.name
        assert f'"{each.name}"' in tests, each.name


def test_the_readme_lists_every_mend(repo_root: Path) -> None:
    """With its reason and for whom it acts, and none that is gone."""
    readme = (repo_root / "README.md").read_text()
    rows = [f"| `{each.name}` | {each.reason} | {each.acts} |" for each in mending.all_mends()]
    table = readme.partition("| mend | why | acts for |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == rows
    assert mending.SKIP in readme
    assert mending.ASK in readme


def test_a_failing_mend_warns_and_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(names: mending.Names) -> None:
        raise OSError("out of paper")

    broken = mending.Mend("broken", "", ("basicsr.printer",), mending.always, fails)
    monkeypatch.setattr(mending, "_after", [broken])
    monkeypatch.setattr(telling, "failures", [])
    with pytest.warns(RuntimeWarning, match="broken could not be applied .*out of paper"):
        mending.after("basicsr.printer", {})
    assert "broken" not in mending.applied


def test_names_of_no_mend_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "failures", [])
    monkeypatch.setattr(mending, "_prepared", set())
    monkeypatch.setenv(mending.SKIP, "own-folder, own-foldr")
    with pytest.warns(RuntimeWarning, match="LMLT_SKIP_MENDS names 'own-foldr', which is no mend"):
        mending.before("basicsr")
    for section in (
        {"mends": ["seeds-of-data-worker"]},
        {"mends": "al"},
        "all mends",
        {"mends": "all"},
        None,
    ):
        mending.wanted("seeds-of-data-workers", {"model_type": "SRModel", "lmlt": section})
        mending.wanted("seeds-of-data-workers", {"model_type": "SRModel", "lmlt": section})
    assert [text.split("'")[1] for text in telling.failures] == [
        "own-foldr",
        "seeds-of-data-worker",
        "al",
        "all mends",
    ]


def test_left_out_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    mends = [
        mending.Mend(
            name, "", ("basicsr.printer",), mending.always, lambda names, name=name: done.append(name)
        )
        for name in ("a", "b", "c")
    ]
    monkeypatch.setattr(mending, "_after", mends)
    monkeypatch.setattr(mending, "applied", {})
    monkeypatch.setenv(mending.SKIP, "a,c")
    names: mending.Names = {}
    mending.after("basicsr.printer", names)
    mending.after("basicsr.printer", names)
    mending.after("basicsr.scanner", {})
    assert done == ["b"]
    assert [*mending.applied] == ["b"]
