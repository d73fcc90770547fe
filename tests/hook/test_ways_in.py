"""Every way in which users start BasicSR finds our networks, models, losses and datasets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.throwaway import Environment, stock_basicsr

pytestmark = pytest.mark.slow

Options = Callable[..., Path]


def test_module_train_resume_and_test(installed: Environment, options: Options, tmp_path: Path) -> None:
    """`python -m basicsr.train`, `--auto_resume` after a kill, `python -m basicsr.test` on the result.

    The option file is of the official kind: SRModel with an `fft_opt`, `num_gpu: 1`.
    """
    said = installed.run("-m", "basicsr.train", "-opt", options(), cwd=tmp_path)
    assert "Network [LMLT] is created" in said
    assert "Stock SRModel ignores train: fft_opt: using model_type: LMLTModel" in said
    assert "l_fft: " in said
    assert "no GPU: running on the CPU" in said
    assert "Name LMLT is not found" not in said

    run = installed.site / "experiments" / "tiny"
    state = run / "training_states" / "2.state"
    (state.with_name("3.state")).write_bytes(state.read_bytes()[:1000])
    said = installed.run("-m", "basicsr.train", "-opt", options(iterations=4), "--auto_resume", cwd=tmp_path)
    assert "3.state: damaged" in said
    assert "Resuming training from epoch: 0, iter: 2" in said
    assert "iter:       3" in said
    assert "iter:       2" not in said
    assert "Best: " in said
    assert "@ 5 iter" not in said
    assert not list(run.parent.glob("tiny_archived*"))

    weights = run / "models" / "net_g_latest.pth"
    said = installed.run("-m", "basicsr.test", "-opt", options("test", weights=weights), cwd=tmp_path)
    assert "# psnr: " in said
    shutil.rmtree(run)


def test_stock_checkout_never_built(plugged: Environment, options: Options, tmp_path: Path) -> None:
    """A checkout of BasicSR without `version.py`, in an environment without BasicSR."""
    checkout = tmp_path / "BasicSR"
    shutil.copytree(stock_basicsr(), checkout / "basicsr", ignore=shutil.ignore_patterns("version.py"))
    (checkout / "VERSION").write_text("1.4.2\n")
    said = plugged.torchrun("basicsr/train.py", "-opt", options(), "--launcher", "pytorch", cwd=checkout)
    assert "BasicSR: 1.4.2" in said
    assert "Network [LMLT] is created" in said
    assert "Save the latest model" in said
    assert (checkout / "experiments" / "tiny" / "models" / "net_g_latest.pth").is_file()
    for patch in ("own-folder", "missing-version"):
        said = plugged.run("basicsr/train.py", "-opt", options(), cwd=checkout, skip=[patch], fails=True)
        assert "ModuleNotFoundError: No module named 'basicsr" in said


def test_two_processes_in_our_checkout(
    stock: Environment, copy_of_checkout: Callable[[Path], Path], options: Options, tmp_path: Path
) -> None:
    """The launcher brings the plugin along; two processes meet over gloo, each with a spawned data worker."""
    checkout = copy_of_checkout(tmp_path / "checkout")
    launch = ("basicsr/train.py", "-opt", options(workers=1), "--launcher", "pytorch")
    said = stock.torchrun(*launch, cwd=checkout, processes=2)
    assert "world_size: 2" in said
    assert said.count("iter:       1") == 1
    assert "Save the latest model" in said
    assert "# psnr: " in said
    assert (checkout / "experiments" / "tiny" / "models" / "net_g_2.pth").is_file()
    assert (checkout / "tb_logger" / "tiny").is_dir()


def test_users_script(installed: Environment, tmp_path: Path) -> None:
    said = installed.script(
        """
        from basicsr.archs import build_network

        net = build_network({"type": "ESC", "dim": 8, "pdim": 4, "kernel_size": 5, "n_blocks": 1,
                             "conv_blocks": 1, "window_size": 8, "num_heads": 2, "upscaling_factor": 2,
                             "exp_ratio": 1.25})
        print("built by", type(net).__module__)

        import pickle
        from importlib.resources import files

        from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY

        assert {"LMLT", "ESC", "ESCFP", "ESCReal", "ESCRealM"} <= set(ARCH_REGISTRY.keys())
        assert {"LMLTModel", "ESCModel", "ESRModel"} <= set(MODEL_REGISTRY.keys())
        assert "FFTLoss" in LOSS_REGISTRY
        assert "DownsampleImageDataset" in DATASET_REGISTRY

        import basicsr.metrics
        import basicsr.utils

        assert files("basicsr.metrics").joinpath("niqe_pris_params.npz").is_file()
        for module in (basicsr, basicsr.metrics, basicsr.utils):
            assert "lmlt" not in repr(vars(module.__loader__)), module.__loader__
            pickle.dumps(module.__spec__.loader)
        """,
        cwd=tmp_path,
    )
    assert said == "built by lmlt_arch.archs.esc.esc\n"


def test_editable_install_beside_an_editable_basicsr(
    libraries: Path, copy_of_checkout: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Our launchers' folder, now on the path, must not hide a BasicSR that only its own finder knows."""
    environment = Environment(tmp_path / "env", libraries)
    environment.install("--editable", copy_of_checkout(tmp_path / "checkout"))
    basicsr = tmp_path / "elsewhere" / "BasicSR"
    shutil.copytree(stock_basicsr(), basicsr / "basicsr")
    (basicsr / "setup.py").write_text("from setuptools import setup\nsetup(packages=['basicsr'])\n")
    environment.install("--editable", basicsr)
    assert list(environment.site.glob("__editable___*finder.py")), "BasicSR is meant to come by a finder"
    said = environment.script(
        """
        import basicsr
        from basicsr.archs import build_network

        build_network({"type": "LMLT", "dim": 12, "n_blocks": 1, "upscaling_factor": 2})
        print(basicsr.__file__)
        """,
        cwd=tmp_path,
    )
    assert said.strip() == str(basicsr / "basicsr" / "__init__.py")


def test_looking_for_basicsr_loads_nothing(installed: Environment, tmp_path: Path) -> None:
    said = installed.script(
        """
        import sys
        from importlib.machinery import SourceFileLoader
        from importlib.util import find_spec

        spec = find_spec("basicsr")
        assert isinstance(spec.loader, SourceFileLoader), spec
        assert spec.loader.get_code("basicsr") is not None
        print({"torch", "numpy", "basicsr"} & set(sys.modules))
        """,
        cwd=tmp_path,
    )
    assert said == "set()\n"


def test_our_models_first(installed: Environment, tmp_path: Path) -> None:
    """Importing a module of ours that needs BasicSR starts BasicSR from the middle of our own import."""
    installed.script(
        """
        import warnings

        warnings.simplefilter("error", RuntimeWarning)
        from lmlt_arch.models.lmlt_model import LMLTModel
        from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

        assert "LMLTModel" in MODEL_REGISTRY
        assert MODEL_REGISTRY.get("LMLTModel") is LMLTModel
        assert "DownsampleImageDataset" in DATASET_REGISTRY.keys()
        """,
        cwd=tmp_path,
    )


def test_plugin_that_cannot_load(installed: Environment, tmp_path: Path) -> None:
    said = installed.script(
        """
        import sys

        sys.modules["lmlt_arch.archs.lmlt.network"] = None  # as if the file were missing
        from basicsr.archs import build_network
        from basicsr.utils.registry import ARCH_REGISTRY

        build_network({"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1})
        print("LMLT" in ARCH_REGISTRY)
        """,
        cwd=tmp_path,
    )
    assert "basicsr-lmlt: BasicSR goes on without LMLT, ESC, " in said
    assert "lmlt_arch.archs.lmlt.network" in said
    assert said.splitlines()[-1] == "False"
