"""`lmlt doctor`: what is installed, what was mended, and what keeps training from working."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

# Modules that training through BasicSR imports, and the distributions that may bring them.
NEEDED = {
    "torch": ["torch"],
    "torchvision": ["torchvision"],
    "numpy": ["numpy"],
    "scipy": ["scipy"],
    "cv2": ["opencv-python", "opencv-python-headless", "opencv-contrib-python"],
    "lmdb": ["lmdb"],
    "yaml": ["pyyaml"],
    "tensorboard": ["tensorboard", "tb-nightly"],
}

INSTALL_BASICSR = (
    "BasicSR is not installed. After torch and torchvision: `pip install cython setuptools wheel`, then "
    "`pip install --no-deps --no-build-isolation basicsr==1.4.2`, then the libraries that it needs with "
    "`pip install 'basicsr-lmlt[basicsr-runtime]'`. On Python 3.13, build its wheel with 3.12."
)
INSTALL_HOOK = (
    "The import hook is not in this environment, so BasicSR finds our names only through the launchers "
    "basicsr/train.py and basicsr/test.py of the checkout. Install the package: `pip install .` there."
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `doctor` to the command."""
    parser = subparsers.add_parser("doctor", help="check the installation and say what to do about problems")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what there is and what is wrong with it; 1 if training cannot work here."""
    missing = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    problems = [f"{NEEDED[m][0]} is missing: `pip install {NEEDED[m][0]}`." for m in missing]
    basicsr = _import_basicsr(problems)
    _print("Versions", _versions(basicsr))
    if "torch" not in missing:
        _print("Devices", _devices())
        _print("Attention kernels", _kernels())
    if basicsr:
        _print("Mends applied to BasicSR", _mends())
        _print("Registered with BasicSR", _registered(problems))
        _print("One training step", _training_step(problems))
    if not problems:
        print("Training works here.")
        return 0
    print("Training cannot work here:")
    for problem in problems:
        print(f"  * {problem}")
    return 1


def _print(title: str, rows: Iterable[tuple[str, str]]) -> None:
    print(title)
    for name, words in rows:
        print(f"  {name:<16}{words}" if len(name) < 16 else f"  {name}\n      {words}")


def _import_basicsr(problems: list[str]) -> ModuleType | None:
    """The real BasicSR with our hook at work, or None and what to do about it."""
    from lmlt_arch.hook import finder

    if not finder.is_installed():
        problems.append(INSTALL_HOOK)
        finder.install()
    spec = finder.find_spec("basicsr")
    if spec is None:
        problems.append(INSTALL_BASICSR)
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            basicsr = import_module("basicsr")
        except Exception as error:
            problems.append(f"BasicSR at {spec.origin} does not import: {error!r}. Reinstall what it names.")
            basicsr = None
    ours = dict.fromkeys(str(warning.message) for warning in caught)
    problems += [message for message in ours if message.startswith("basicsr-lmlt")]
    return basicsr


def _versions(basicsr: ModuleType | None) -> Iterator[tuple[str, str]]:
    import lmlt_arch

    yield "python", f"{platform.python_version()}, {sys.executable}"
    yield "basicsr-lmlt", f"{lmlt_arch.__version__}, {Path(lmlt_arch.__file__).parent}"
    if basicsr:
        yield "basicsr", f"{basicsr.__version__}, {Path(basicsr.__file__ or '').parent}"
    else:
        yield "basicsr", "none that works"
    for module, distributions in NEEDED.items():
        yield module, _version(distributions)


def _version(distributions: list[str]) -> str:
    for name in distributions:
        try:
            return f"{importlib.metadata.version(name)} ({name})"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed by pip"


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    from lmlt_arch.inference.gpu import describe_gpu

    yield "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for PyTorch"
    for index in range(torch.cuda.device_count()):
        yield f"cuda:{index}", describe_gpu(torch.device("cuda", index))
    if not torch.cuda.is_available():
        yield "cuda", "no GPU that this PyTorch can use: training runs on the CPU"
    backends = [name for name in ("gloo", "nccl") if torch.distributed.is_backend_available(name)]
    yield "distributed", ", ".join(backends) or "not in this PyTorch"


def _kernels() -> Iterator[tuple[str, str]]:
    from lmlt_arch.archs.attention import available_backends

    yield from available_backends().items()


def _mends() -> Iterator[tuple[str, str]]:
    from lmlt_arch.hook import mending

    yield from mending.applied.items()


def _registered(problems: list[str]) -> Iterator[tuple[str, str]]:
    from lmlt_arch.hook.registration import registered

    for registry, names in registered().items():
        missing = [name for name, home in names.items() if not home]
        if missing:
            problems.append(f"{', '.join(missing)} missing in {registry}: reinstall basicsr-lmlt.")
        yield (
            registry.removesuffix("_REGISTRY").lower(),
            ", ".join(
                name if home.startswith("lmlt_arch.") else f"{name} (yours, from {home})"
                for name, home in names.items()
                if home
            ),
        )


def _training_step(problems: list[str]) -> Iterator[tuple[str, str]]:
    """Forward and backward of a small LMLT built by BasicSR, with both losses of its option files."""
    import torch

    try:
        from basicsr.archs import build_network
        from basicsr.losses import build_loss

        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = build_network({"type": "LMLT", "dim": 12, "n_blocks": 1, "upscaling_factor": 2}).to(device)
        output = network(torch.rand(1, 3, 16, 16, device=device))
        losses = [build_loss({"type": name}) for name in ("L1Loss", "FFTLoss")]
        total = sum(loss(output, torch.zeros_like(output)) for loss in losses)
        total.backward()
        yield device, f"LMLT, loss {total.item():.4f}"
    except Exception as error:
        problems.append(f"A training step fails: {error!r}.")
        yield "failed", repr(error)
