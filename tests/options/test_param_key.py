"""`path: param_key_g`: which weights of a checkpoint are taken."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small.options import paired_options

from lmlt_arch import LMLT
from lmlt_arch.checkpoints.load import MissingKeyError, load_for_training
from lmlt_arch.options import file_findings

BOTH, EMA, BARE = ("params", "params_ema"), ("params_ema",), ()

# (keys of the file, model, param_key_g, what is said)
CASES: list[tuple[tuple[str, ...], str, str | None, str]] = [
    (BOTH, "LMLTModel", "params_emaa", "net.pth: has no key 'params_emaa'; it has params, params_ema"),
    (BARE, "LMLTModel", "best", "net.pth: has no key 'best'; its tensors are at the top level"),
    (BOTH, "LMLTModel", "params", ""),
    (BOTH, "LMLTModel", None, ""),
    (EMA, "LMLTModel", "params", ""),
    (("params",), "LMLTModel", "params_ema", ""),
    (BARE, "LMLTModel", "params", ""),
    (("params", "best"), "LMLTModel", "best", ""),
    (BOTH, "SRModel", "nonsense", "has no key 'nonsense'; it has params, params_ema"),
    (BOTH, "SRModel", "params_ema", ""),
    (("params",), "SRModel", "params_ema", ""),
    (BARE, "SRModel", None, ""),
    (EMA, "SRModel", "params", "whose weights lie under params_ema: write params_ema"),
    (BARE, "SRModel", "params", "whose weights lie in it without a key: write ~"),
    (BOTH, "SRModel", None, "SRModel looks for ~ in"),
]


def save(tmp_path: Path, keys: tuple[str, ...]) -> tuple[Path, LMLT]:
    network = LMLT(dim=12, n_blocks=1, ffn_scale=1.5, upscaling_factor=2)
    state = network.state_dict()
    torch.save(dict.fromkeys(keys, state) if keys else state, tmp_path / "net.pth")
    return tmp_path / "net.pth", network


@pytest.mark.parametrize(("keys", "model", "key", "message"), CASES)
def test_what_is_said(
    tmp_path: Path, keys: tuple[str, ...], model: str, key: str | None, message: str
) -> None:
    opt: dict[str, Any] = paired_options(tmp_path) | {"model_type": model}
    opt["path"] |= {"pretrain_network_g": str(save(tmp_path, keys)[0]), "param_key_g": key}
    found = file_findings(opt)
    assert [mistake.place for mistake in found] == [("path", "param_key_g")] * bool(message)
    assert all(message in mistake.text for mistake in found), found


def test_what_is_loaded_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, network = save(tmp_path, EMA)
    with caplog.at_level(logging.INFO, "basicsr"):
        assert load_for_training(network, file, key="params", strict=True) == []
        assert "net.pth: has no key 'params'; it has params_ema. Taking that." in caplog.text
        caplog.clear()
        assert load_for_training(network, file, key="params_ema", strict=True) == []
        assert not caplog.text
        with pytest.raises(MissingKeyError, match="has no key 'params_emaa'; it has params_ema"):
            load_for_training(network, file, key="params_emaa", strict=True)
