"""Mixed precision, layouts, compilation, micro-batches, freezing: what they change, what they must not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._functorch.config
import torch._inductor.config
from torch import Tensor, nn

from lmlt_arch.models import ESCModel, LMLTModel
from lmlt_arch.models.plugin_model import PluginModel

MODELS = {"LMLT": LMLTModel, "ESC": ESCModel}
SGD = {"type": "SGD", "lr": 1.0}


@pytest.fixture
def four() -> dict[str, Tensor]:
    """Four patches of 16 x 16 and their x2 targets."""
    generator = torch.Generator().manual_seed(1)
    return {
        "lq": torch.rand(4, 3, 16, 16, generator=generator),
        "gt": torch.rand(4, 3, 32, 32, generator=generator),
    }


@pytest.fixture
def deterministic_flags() -> Iterator[None]:
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


def trained(
    make_options: Any,
    network: str,
    batch: dict[str, Tensor],
    steps: int = 2,
    arguments: dict[str, Any] | None = None,
    **train: Any,
) -> PluginModel:
    torch.manual_seed(0)
    model = MODELS[network](make_options(network, train=train, arguments=arguments))
    model.net_g.to(batch["lq"].dtype)
    model.net_g_ema.to(batch["lq"].dtype)
    for iteration in range(1, steps + 1):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    return model


def weights(model: PluginModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.net_g.parameters()])


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_trains_float32_weights(
    make_options: Any, four: dict[str, Tensor], network: str, amp: str
) -> None:
    seen: list[torch.dtype] = []
    full = trained(make_options, network, four)
    half = trained(make_options, network, four, steps=0, amp=amp)
    for module in half.net_g.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    before = weights(half)
    for iteration in (1, 2):
        half.update_learning_rate(iteration)
        half.feed_data(four)
        half.optimize_parameters(iteration)
    assert set(seen) == {torch.bfloat16 if amp == "bf16" else torch.float16}
    assert all(parameter.dtype == torch.float32 for parameter in half.net_g.parameters())
    assert half.output.dtype == torch.float32
    assert (weights(half) - before).abs().max() > 0
    log_full, log_half = full.get_current_log()["l_pix"], half.get_current_log()["l_pix"]
    assert log_half == pytest.approx(log_full, rel=0.02)
    assert log_half != log_full


def test_fp16_skips_a_step_that_overflows_and_lowers_the_scale(
    make_options: Any, four: dict[str, Tensor]
) -> None:
    loss = {"type": "L1Loss", "loss_weight": 1e6, "reduction": "mean"}
    model = trained(make_options, "ESC", four, steps=0, amp="fp16", pixel_opt=loss, ema_decay=0.5)
    before, scale = weights(model), model.precision.state_dict()["scale"]
    model.update_learning_rate(1)
    model.feed_data(four)
    model.optimize_parameters(1)
    assert torch.equal(weights(model), before)
    assert model.precision.state_dict()["scale"] == scale / 2


def test_fp16_clips_unscaled_gradients(make_options: Any, four: dict[str, Tensor]) -> None:
    def change(**train: Any) -> float:
        model = trained(make_options, "ESC", four, steps=0, optim_g=dict(SGD), **train)
        before = weights(model)
        model.update_learning_rate(1)
        model.feed_data(four)
        model.optimize_parameters(1)
        return (weights(model) - before).norm().item()

    assert change(amp="fp16") > 0.04
    assert change(amp="fp16", grad_clip=0.02) == pytest.approx(0.02, rel=1e-3)


def test_the_scale_is_saved_and_restored(make_options: Any, four: dict[str, Tensor], tmp_path: Path) -> None:
    loss = {"type": "L1Loss", "loss_weight": 1e6, "reduction": "mean"}
    model = trained(make_options, "ESC", four, steps=3, amp="fp16", pixel_opt=loss)
    model.save(epoch=0, current_iter=3)
    state = torch.load(tmp_path / "training_states" / "3.state", weights_only=True)
    path = {"resume_state": str(tmp_path / "training_states" / "3.state")}
    other = ESCModel(make_options("ESC", train={"amp": "fp16"}, path=path))
    initial = other.precision.state_dict()["scale"]
    other.resume_training(state)
    assert other.precision.state_dict() == model.precision.state_dict()
    assert other.precision.state_dict()["scale"] < initial


@pytest.mark.parametrize("network", MODELS)
def test_channels_last_changes_the_layout_only(
    make_options: Any, four: dict[str, Tensor], network: str, tmp_path: Path
) -> None:
    double = {key: value.double() for key, value in four.items()}
    plain = trained(make_options, network, double)
    last = trained(make_options, network, double, channels_last=True)
    layouts = [
        p.is_contiguous(memory_format=torch.channels_last) for p in last.net_g.parameters() if p.ndim == 4
    ]
    assert all(layouts)
    assert last.lq.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weights(last), weights(plain), rtol=1e-7, atol=1e-9)
    last.save(epoch=0, current_iter=-1)
    saved = torch.load(tmp_path / "models" / "net_g_latest.pth", weights_only=True)["params"]
    assert all(tensor.is_contiguous() for tensor in saved.values())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """And nothing compiled by other tests, perhaps for several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()
    # Compiled C++ may come from before, whose text says for how many threads it is; what was traced may not.
    with (
        torch._inductor.config.patch(fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False),
    ):
        yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_compiling_keeps_results_and_names(
    make_options: Any, four: dict[str, Tensor], one_thread: None
) -> None:
    """Of the network that is harder to compile, with one convolution block: each of them compiles again."""
    plain, compiled = (
        trained(make_options, "ESC", four, arguments={"conv_blocks": 1}, **train)
        for train in ({}, {"compile": True})
    )
    assert list(compiled.net_g.state_dict()) == list(plain.net_g.state_dict())
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=0, atol=2e-3)
    assert compiled.get_current_log()["l_pix"] == pytest.approx(plain.get_current_log()["l_pix"], rel=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a fault of CPUs")
def test_compiling_for_several_threads_is_refused(make_options: Any) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match=r"compile: on a CPU, .* OMP_NUM_THREADS=1"):
            LMLTModel(make_options("LMLT", train={"compile": True}))
    finally:
        torch.set_num_threads(threads)


def test_several_gpus_in_one_process_do_not_compile(make_options: Any) -> None:
    opt = {**make_options("LMLT", train={"compile": True}), "num_gpu": 2}
    with pytest.raises(
        ValueError, match="compile: does not work with 2 GPUs in one process: start by torchrun"
    ):
        LMLTModel(opt)


@pytest.mark.parametrize("network", MODELS)
def test_micro_batches_add_up_to_the_batch(make_options: Any, four: dict[str, Tensor], network: str) -> None:
    batch = {key: value.double() for key, value in four.items()}
    train = {"fft_opt": {"type": "FFTLoss", "loss_weight": 0.05}, "grad_clip": 0.05}
    whole = trained(make_options, network, batch, **train)
    for steps in (2, 4):
        parts = trained(make_options, network, batch, accumulation_steps=steps, **train)
        torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(parts.output, whole.output)
        assert dict(parts.get_current_log()) == pytest.approx(dict(whole.get_current_log()), rel=1e-9)


def test_a_batch_that_cannot_be_cut_is_refused(make_options: Any, four: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"accumulation_steps: 3 does not divide a batch of 4"):
        trained(make_options, "LMLT", four, accumulation_steps=3)


def test_frozen_layers_stay(make_options: Any, four: dict[str, Tensor]) -> None:
    model = trained(make_options, "ESC", four, steps=0, freeze=["proj", "blocks.0.attn"])
    before = copy.deepcopy(dict(model.net_g.named_parameters()))
    for iteration in (1, 2):
        model.update_learning_rate(iteration)
        model.feed_data(four)
        model.optimize_parameters(iteration)
    moved = {
        name for name, parameter in model.net_g.named_parameters() if not torch.equal(parameter, before[name])
    }
    frozen = {name for name in before if name.startswith(("proj.", "blocks.0.attn."))}
    assert frozen
    assert moved == before.keys() - frozen
    everything = [*dict.fromkeys(name.split(".")[0] for name in before)]
    for wrong, message in (
        (["prok"], "train: freeze: no parameter of network_g is called 'prok'; did you mean 'proj'"),
        (everything, "train: freeze: leaves nothing of network_g to train"),
    ):
        with pytest.raises(ValueError, match=message):
            ESCModel(make_options("ESC", train={"freeze": wrong}))


def test_fused_optimizers(make_options: Any, four: dict[str, Tensor]) -> None:
    plain = trained(make_options, "LMLT", four)
    fused = trained(
        make_options, "LMLT", four, optim_g={"type": "Adam", "lr": 1e-3, "fused": True, "betas": [0.9, 0.99]}
    )
    assert fused.optimizer_g.param_groups[0]["fused"] is True
    torch.testing.assert_close(weights(fused), weights(plain), rtol=0, atol=1e-4)


def test_deterministic(make_options: Any, four: dict[str, Tensor], deterministic_flags: None) -> None:
    torch.backends.cudnn.benchmark = True
    models = [trained(make_options, "ESC", four, deterministic=True) for _ in range(2)]
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert torch.equal(*(weights(model) for model in models))
