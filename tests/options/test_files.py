"""Files that option files name: checkpoints and training states that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from basicsr.archs.discriminator_arch import UNetDiscriminatorSN
from basicsr.models.lr_scheduler import MultiStepRestartLR
from helpers.small.options import REAL_NETWORK, paired_options, photo_options

from lmlt_arch import LMLT, ESCReal
from lmlt_arch.options import file_findings, file_mistakes


def test_checkpoint_of_a_generator_for_the_discriminator(tmp_path: Path) -> None:
    opt = photo_options(tmp_path)
    opt |= {"model_type": "ESCRealGANModel"}
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 8}
    generator, judge = tmp_path / "net_g.pth", tmp_path / "net_d.pth"
    arguments = {key: value for key, value in REAL_NETWORK.items() if key != "type"}
    torch.save({"params": ESCReal(**arguments).state_dict()}, generator)
    torch.save({"params": UNetDiscriminatorSN(3, 8).state_dict()}, judge)
    opt["path"] = {"pretrain_network_g": str(generator), "pretrain_network_d": str(judge)}
    assert file_mistakes(opt) == []
    opt["path"] = {"pretrain_network_g": str(judge), "pretrain_network_d": str(generator)}
    g, d = file_mistakes(opt)
    assert g.place == ("path", "pretrain_network_g")
    assert "is not for this ESCReal" in g.text
    assert d.place == ("path", "pretrain_network_d")
    assert d.text.endswith("is a checkpoint of ESCReal, but network_d is UNetDiscriminatorSN")


def state_of(network: torch.nn.Module, path: Path, iteration: int = 2) -> Path:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    sum(p.sum() for p in network.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    schedule = MultiStepRestartLR(optimizer, [2])
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"epoch": 0, "iter": iteration, "optimizers": [optimizer.state_dict()]}
    torch.save(state | {"schedulers": [schedule.state_dict()]}, path)
    return path


def test_training_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opt = paired_options(tmp_path)
    arguments = {key: value for key, value in opt["network_g"].items() if key != "type"}
    network = LMLT(**arguments)
    run = tmp_path / "experiments/tiny"
    state = state_of(network, run / "training_states/2.state")
    opt["path"]["resume_state"] = str(state)

    def said() -> list[str]:
        return [f"{'note: ' if m.is_note else ''}{m.text}" for m in file_findings(opt)]

    assert said() == [
        f"training takes the networks from {run / 'models'}, which lacks net_g_2.pth. Fix: copy them there, "
        "or start from pretrain_network_g instead"
    ]
    (run / "models").mkdir()
    torch.save({"params": network.state_dict()}, run / "models/net_g_2.pth")
    assert said() == []

    older = state_of(network, run / "training_states/1.state", iteration=1)
    torch.save({"params": network.state_dict()}, run / "models/net_g_1.pth")
    for path in (run / "models/net_g_2.pth", state):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        (text,) = said()
        assert f"{path}: damaged" in text
        assert f"{older}" in text
        assert file_findings({**opt, "auto_resume": True}) == []
        path.write_bytes(whole)
    (run / "models/net_g_2.pth").rename(run / "models/away.pth")
    assert f"or resume from {older}, which is whole" in said()[0]
    (run / "models/away.pth").rename(run / "models/net_g_2.pth")
    older.unlink()
    assert said() == []

    opt["name"] = "other"
    (text,) = said()
    assert text.startswith("is not of this run, whose name is other: training takes the networks from")
    assert "write name: tiny" in text
    (tmp_path / "experiments/other").mkdir()
    (run / "models").rename(tmp_path / "experiments/other/models")
    assert said() == [
        "note: is of another folder: the run goes on in experiments/other, with the networks there"
    ]
    (tmp_path / "experiments/other/models").rename(run / "models")
    opt["name"] = "tiny"

    opt["train"]["total_iter"] = 2
    assert said()[0].startswith(f"note: {state} is of iteration 2, and total_iter is 2")
    opt["train"]["total_iter"] = 4
    optimizer, opt["train"]["optim_g"] = opt["train"]["optim_g"], {"type": "SGD", "lr": 0.1, "momentum": 0.9}
    assert "is of another optimizer than SGD: it has no momentum, dampening" in said()[0]
    opt["train"]["optim_g"] = {"type": "AdamW", "lr": 0.1}
    assert said() == []
    opt["train"]["optim_g"] = optimizer
    state_of(LMLT(**{**arguments, "dim": 24}), state)
    assert "is of another network than network_g" in said()[0]
    torch.save({"params": network.state_dict()}, state)
    assert "is no training state" in said()[0]
    state.write_text("text")
    assert "is no training state" in said()[0]
    state.unlink()
    assert "there is no file" in said()[0]
