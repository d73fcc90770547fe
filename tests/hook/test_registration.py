"""Our names in a registry: present under plain names, and gone as soon as the user brings one like it."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
from helpers.throwaway import stock_basicsr

from lmlt_arch.archs import LMLT
from lmlt_arch.hook import registration, warn
from lmlt_arch.names import PROVIDED


@pytest.fixture
def names() -> dict[str, Any]:
    """Fresh registries of stock BasicSR."""
    spec = spec_from_file_location("stock_registry", stock_basicsr() / "utils" / "registry.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


@pytest.fixture
def archs(names: dict[str, Any]) -> Any:
    registration.after("basicsr.utils.registry", names)
    return names["ARCH_REGISTRY"]


def _users_network() -> type:
    return type("LMLT", (), {})


def test_plain_names_without_a_word(archs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert "LMLT" in archs
    assert archs.get("LMLT") is LMLT
    assert set(PROVIDED["ARCH_REGISTRY"]) == set(archs.keys()) == {name for name, _ in archs}
    assert capsys.readouterr().out == ""


def test_unknown_names_fail_as_in_stock(archs: Any) -> None:
    assert "Unknown" not in archs
    with pytest.raises(KeyError, match="No object named 'Unknown' found in 'arch' registry"):
        archs.get("Unknown")


def test_users_network_registered_first_wins(names: dict[str, Any]) -> None:
    users = _users_network()
    names["ARCH_REGISTRY"].register(users)
    registration.after("basicsr.utils.registry", names)
    assert names["ARCH_REGISTRY"].get("LMLT") is users
    assert "ESC" in names["ARCH_REGISTRY"]
    assert names["ARCH_REGISTRY"].get("LMLT") is users


@pytest.mark.parametrize("loaded", [False, True])
def test_users_network_registered_later_wins(archs: Any, loaded: bool) -> None:
    if loaded:
        assert archs.get("LMLT") is LMLT
    users = _users_network()
    assert archs.register()(users) is users
    assert archs.get("LMLT") is users
    with pytest.raises(AssertionError, match="already registered"):
        archs.register(_users_network())
    assert archs.get("LMLT") is users


def test_suffix_is_another_name(archs: Any) -> None:
    users = _users_network()
    archs.register(users, suffix="mine")
    assert archs.get("LMLT") is LMLT
    assert archs.get("LMLT_mine") is users


def test_one_that_cannot_load_warns_once(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    provided = {"ARCH_REGISTRY": {"Broken": "lmlt_arch.no_such_module", "LMLT": "lmlt_arch.archs"}}
    monkeypatch.setattr(registration, "PROVIDED", provided)
    monkeypatch.setattr(warn, "failures", [])
    registration.after("basicsr.utils.registry", names)
    archs = names["ARCH_REGISTRY"]
    with pytest.warns(RuntimeWarning, match=r"goes on without Broken .*no_such_module") as caught:
        assert set(archs.keys()) == {"LMLT"}
    assert len(caught) == 1
    assert "Broken" not in archs
    with pytest.raises(KeyError, match="Broken"):
        archs.get("Broken")
