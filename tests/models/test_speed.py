"""What makes a training step fast or small: that it changes nothing, and that it is there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lmlt_arch.archs.common.blocks import repeated_blocks
from lmlt_arch.check.cost import estimate_memory
from lmlt_arch.models import ESCModel, LMLTModel
from lmlt_arch.models.plugin_model import PluginModel

MODELS: dict[str, type[PluginModel]] = {"LMLT": LMLTModel, "ESC": ESCModel}
FFT = {"type": "FFTLoss", "loss_weight": 0.05}


def build(make_options: Any, network: str, **train: Any) -> PluginModel:
    torch.manual_seed(0)
    model = MODELS[network](make_options(network, train={"fft_opt": FFT, "grad_clip": 1.0, **train}))
    model.net_g.double()
    model.net_g_ema.double()
    return model


def train(model: PluginModel, batch: dict[str, Tensor], steps: int = 3) -> PluginModel:
    for iteration in range(1, steps + 1):
        model.update_learning_rate(iteration)
        model.feed_data({key: value.double() for key, value in batch.items()})
        model.optimize_parameters(iteration)
    return model


def assert_same_state(one: PluginModel, other: PluginModel) -> None:
    for net in ("net_g", "net_g_ema"):
        torch.testing.assert_close(getattr(one, net).state_dict(), getattr(other, net).state_dict())
    torch.testing.assert_close(one.optimizer_g.state_dict()["state"], other.optimizer_g.state_dict()["state"])


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD"])
def test_fused_steps_are_those_of_the_plain_loop(
    make_options: Any, batch: dict[str, Tensor], kind: str
) -> None:
    optim = {"type": kind, "lr": 1e-3, "weight_decay": 1e-2}
    fused = train(build(make_options, "LMLT", optim_g={**optim, "fused": True}), batch)
    plain = train(build(make_options, "LMLT", optim_g=dict(optim)), batch)
    assert fused.optimizer_g.defaults["fused"]
    assert not plain.optimizer_g.defaults["fused"]
    assert_same_state(fused, plain)
    # Checkpoints of either go on as the other.
    states = [copy.deepcopy(model.optimizer_g.state_dict()) for model in (fused, plain)]
    plain.optimizer_g.load_state_dict(states[0])
    fused.optimizer_g.load_state_dict(states[1])
    assert_same_state(train(fused, batch), train(plain, batch))


def test_optimizers_are_fused_on_cuda(make_options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(make_options, "LMLT")
    monkeypatch.setattr(model, "device", torch.device("cuda"))

    def made(kind: str, **more: Any) -> dict[str, Any]:
        return model.get_optimizer(kind, model.net_g.parameters(), 1e-3, **more).defaults

    assert made("Adam")["fused"]
    assert made("SGD", momentum=0.9)["fused"]
    assert not made("AdamW", fused=False)["fused"]
    assert made("AdamW", foreach=True) == {**made("AdamW", fused=False), "fused": None, "foreach": True}
    assert not made("Adagrad")["fused"]


def test_compiled_networks_are_recorded_where_nothing_is_overwritten(
    make_options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(device: str = "cuda", *, dist: bool = False, **more: Any) -> bool:
        model = build(make_options, "LMLT", **more)
        monkeypatch.setattr(model, "device", torch.device(device))
        monkeypatch.setitem(model.opt, "dist", dist)
        assert not model._runs_as_graphs(model.net_g_ema)
        return model._runs_as_graphs(model.net_g)

    assert recorded()
    assert not recorded("cpu")
    assert not recorded(dist=True)
    assert not recorded(accumulation_steps=2)


class OnMeta(LMLTModel):
    """Trains on the device that has no data: whatever needs a value of a tensor fails there."""

    def to_device(self, images: Tensor) -> Tensor:
        return super().to_device(images).to("meta")


@pytest.mark.parametrize("more", [{}, {"accumulation_steps": 2}, {"amp": None, "ema_decay": 0}], ids=str)
def test_no_iteration_reads_from_the_device(
    make_options: Any, batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    model = OnMeta(make_options("LMLT", train={"fft_opt": FFT, "grad_clip": 1.0, **more}))
    for net in (model.net_g, getattr(model, "net_g_ema", nn.Module())):
        net.to("meta")
    model.optimizer_g = torch.optim.Adam(model.net_g.parameters(), lr=1e-3)
    looked: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(model.loss_watch, "read", lambda iteration: looked.append(iteration.number))
        for iteration in range(1, 5):
            model.feed_data(batch)
            model.optimize_parameters(iteration)
    assert looked == [1, 2, 3], "each iteration looks at the one before it, which the device has done by then"
    with pytest.raises((RuntimeError, NotImplementedError)):
        model.get_current_log()


@pytest.mark.parametrize("network", MODELS)
def test_checkpointing_changes_memory_and_nothing_else(
    make_options: Any, batch: dict[str, Tensor], network: str
) -> None:
    models = [build(make_options, network, checkpointing=on) for on in (False, True)]
    plain, checkpointed = (train(model, batch) for model in models)
    assert_same_state(plain, checkpointed)
    assert plain.get_current_log() == pytest.approx(dict(checkpointed.get_current_log()))
    kept = [bytes_kept(model.net_g, batch["lq"].double()) for model in (plain, checkpointed)]
    assert kept[1] < 0.7 * kept[0]
    for model in (plain, checkpointed):
        model.test()
    torch.testing.assert_close(plain.output, checkpointed.output)


class Alive(TorchDispatchMode):
    """Remembers the memory of every tensor that is computed, without keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self.seen[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return result


def bytes_kept(network: nn.Module, images: Tensor) -> int:
    """Bytes of what the forward pass computed and the backward pass will need."""
    with Alive() as alive:
        output = network(images)
    kept = sum(size for storage, size in alive.seen.values() if not storage.expired())
    output.sum().backward()
    return kept


@pytest.mark.parametrize("network", MODELS)
def test_the_estimate_of_memory_knows_checkpointing(make_options: Any, network: str) -> None:
    opt = make_options(network, arguments={"n_blocks": 4})
    whole = estimate_memory(opt, 2, 32).activations
    opt["train"]["checkpointing"] = True
    assert 0.1 * whole < estimate_memory(opt, 2, 32).activations < 0.6 * whole


def test_blocks_are_found_in_networks_of_others() -> None:
    body = nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(4)))
    assert repeated_blocks(nn.Sequential(nn.Conv2d(3, 8, 3), body)) == [*body]
    assert len(repeated_blocks(EDSR(3, 3, num_feat=8, num_block=5))) == 5
    with pytest.raises(ValueError, match="Conv2d has no list of blocks"):
        repeated_blocks(nn.Conv2d(3, 8, 3))


def test_bytes_are_trained_on_as_floats(make_options: Any, batch: dict[str, Tensor]) -> None:
    quantized = {key: (value * 255).round().byte() for key, value in batch.items()}
    model = LMLTModel(make_options("LMLT"))
    model.feed_data(quantized)
    for key in batch:
        assert torch.equal(getattr(model, key), quantized[key].float() / 255)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
def test_no_iteration_waits_for_the_gpu(
    make_options: Any, batch: dict[str, Tensor], network: str, amp: str | None
) -> None:
    options = make_options(network, train={"fft_opt": FFT, "amp": amp})
    model = MODELS[network]({**options, "num_gpu": 1})
    pinned = {key: value.pin_memory() for key, value in batch.items()}
    for iteration in range(1, 6):
        model.update_learning_rate(iteration)
        # Libraries load and memory is taken in the first ones; fp16's scaler waits, for its overflow flag.
        torch.cuda.set_sync_debug_mode("error" if iteration > 2 and amp != "fp16" else "default")
        try:
            model.feed_data(pinned)
            model.optimize_parameters(iteration)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(value == value for value in model.get_current_log().values())
