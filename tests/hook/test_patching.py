"""The table of patches itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmlt_arch.hook import patches, patching, warn


def test_every_patch_gives_a_reason_and_has_a_test() -> None:
    files = [path for path in Path(__file__).parent.rglob("test_*.py") if path != Path(__file__)]
    tests = "".join(path.read_text() for path in files)
    for each in patches.all_patches():
        assert len(each.reason) > 40, each.name
        assert f'"{each.name}"' in tests, each.name


def test_the_readme_lists_every_patch(repo_root: Path) -> None:
    """With its reason and for whom it acts, and none that is gone."""
    readme = (repo_root / "README.md").read_text()
    rows = [f"| `{each.name}` | {each.reason} | {each.acts} |" for each in patches.all_patches()]
    table = readme.partition("| patch | why | acts for |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == rows
    assert patching.SKIP in readme
    assert patching.ASK in readme


def test_a_failing_patch_warns_and_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(names: patching.Names) -> None:
        raise OSError("out of paper")

    broken = patching.Patch("broken", "", ("basicsr.printer",), patching.always, fails)
    monkeypatch.setattr(patching, "_after", [broken])
    monkeypatch.setattr(warn, "failures", [])
    with pytest.warns(RuntimeWarning, match="broken could not be applied .*out of paper"):
        patching.after("basicsr.printer", {})
    assert "broken" not in patching.applied


def test_unknown_names_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warn, "failures", [])
    monkeypatch.setattr(patching, "_prepared", set())
    monkeypatch.setenv(patching.SKIP, "own-folder, own-foldr")
    with pytest.warns(RuntimeWarning, match="LMLT_SKIP_MENDS names 'own-foldr', which is no patch"):
        patching.before("basicsr")
    for section in (
        {"mends": ["seeds-of-data-worker"]},
        {"mends": "al"},
        "all patches",
        {"mends": "all"},
        None,
    ):
        patching.wanted("seeds-of-data-workers", {"model_type": "SRModel", "lmlt": section})
        patching.wanted("seeds-of-data-workers", {"model_type": "SRModel", "lmlt": section})
    assert [text.split("'")[1] for text in warn.failures] == [
        "own-foldr",
        "seeds-of-data-worker",
        "al",
        "all patches",
    ]


def test_left_out_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    patches = [
        patching.Patch(
            name, "", ("basicsr.printer",), patching.always, lambda names, name=name: done.append(name)
        )
        for name in ("a", "b", "c")
    ]
    monkeypatch.setattr(patching, "_after", patches)
    monkeypatch.setattr(patching, "applied", {})
    monkeypatch.setenv(patching.SKIP, "a,c")
    names: patching.Names = {}
    patching.after("basicsr.printer", names)
    patching.after("basicsr.printer", names)
    patching.after("basicsr.scanner", {})
    assert done == ["b"]
    assert [*patching.applied] == ["b"]
