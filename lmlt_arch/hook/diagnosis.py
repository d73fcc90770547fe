"""Diagnosis of an installation: versions, devices, patches, names, and what keeps training from working."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

from lmlt_arch.errors import pip_install

Rows = Iterator[tuple[str, str]]
"""Names and texts of a section."""

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

INSTALL_HOOK = (
    "The import hook is not in this environment, so BasicSR finds our names only through the launchers "
    "basicsr/train.py and basicsr/test.py of the checkout. Install the package: `pip install .` there."
)


def sections(problems: list[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Examine this environment, a section after the other.

    Args:
        problems: gets a sentence for each thing that keeps training from working, with what to do.

    Yields:
        A title, and names with texts.
    """
    missing = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    problems += [f"{NEEDED[m][0]} is missing: `pip install {NEEDED[m][0]}`." for m in missing]
    package = _find_basicsr(problems)
    works = package is not None and _import_basicsr(package, problems)
    parts: dict[str, Callable[[list[str]], Rows]] = {"Versions": partial(_versions, package)}
    if "torch" not in missing:
        parts |= {"Devices": _devices, "Attention kernels": _kernels}
    if works:
        parts |= {"Patches applied to BasicSR": _patches, "Registered with BasicSR": _registered}
        parts["One training step"] = _training_step
    for title, rows in parts.items():
        yield title, [*_guarded(title, rows, problems)]


def _guarded(title: str, rows: Callable[[list[str]], Rows], problems: list[str]) -> Rows:
    try:
        yield from rows(problems)
    except Exception as error:
        problems.append(f"{title}: {error!r}.")
        yield "failed", repr(error)


def _find_basicsr(problems: list[str]) -> Path | None:
    """Folder of the BasicSR that training would use; None if there is none, which becomes a problem."""
    from lmlt_arch.hook import checkout, finder

    if not finder.is_installed():
        problems.append(INSTALL_HOOK)
        finder.install()
    spec = checkout.look_up()
    if wrong := checkout.what_is_wrong(spec):
        problems.append(f"{wrong} {advice_for(sys.version_info[:2])}")
    return checkout.folder_of(spec)


def advice_for(python: tuple[int, ...]) -> str:
    """How to install BasicSR for a version of Python."""
    build = "`pip install cython setuptools wheel`, then "
    build += "`pip install --no-deps --no-build-isolation basicsr==1.4.2`"
    if python >= (3, 13):
        build = (
            "`pip install` of a wheel of it, which Python 3.12 or older builds (`pip wheel --no-deps "
            "--no-build-isolation basicsr==1.4.2`; newer ones cannot)"
        )
    return (
        f"To install it after torch and torchvision: {build}, then the libraries that it needs with "
        f"`{pip_install('basicsr-runtime')}`. Or go to the folder of a checkout that holds "
        "basicsr/train.py."
    )


def _import_basicsr(package: Path, problems: list[str]) -> bool:
    """Whether BasicSR and its training can be imported."""
    works = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            import_module("basicsr")
            import_module("basicsr.train")
        except (Exception, SystemExit) as error:
            problems.append(f"BasicSR in {package} does not import: {error!r}. Reinstall what it names.")
            works = False
    ours = dict.fromkeys(str(warning.message) for warning in caught)
    problems += [message for message in ours if message.startswith("basicsr-lmlt")]
    return works


def _versions(package: Path | None, problems: list[str]) -> Rows:
    from lmlt_arch import version
    from lmlt_arch.hook import releases

    yield "python", f"{platform.python_version()}, {sys.executable}"
    yield "basicsr-lmlt", f"{version.__version__}, {Path(version.__file__).parent}"
    yield "basicsr", "none" if package is None else f"{releases.describe(package)}, {package}"
    for module, distributions in NEEDED.items():
        yield module, _version(distributions)


def _version(distributions: list[str]) -> str:
    for name in distributions:
        try:
            return f"{importlib.metadata.version(name)} ({name})"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed by pip"


def _devices(problems: list[str]) -> Rows:
    import torch

    from lmlt_arch.evaluation.gpu import describe_gpu

    yield "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for PyTorch"
    for index in range(torch.cuda.device_count()):
        yield f"cuda:{index}", describe_gpu(torch.device("cuda", index))
    if not torch.cuda.is_available():
        yield "cuda", "no GPU that this PyTorch can use: training runs on the CPU"
    backends = [name for name in ("gloo", "nccl") if torch.distributed.is_backend_available(name)]
    yield "distributed", ", ".join(backends) or "not in this PyTorch"


def _kernels(problems: list[str]) -> Rows:
    from lmlt_arch.archs.common.attention import available_backends

    yield from available_backends().items()


def _patches(problems: list[str]) -> Rows:
    from lmlt_arch.hook import patching

    yield from patching.applied.items()


def _registered(problems: list[str]) -> Rows:
    from lmlt_arch.names import holds_ours, provider_modules

    for registry, names in provider_modules().items():
        missing = [name for name, home in names.items() if not home]
        if missing:
            problems.append(f"{', '.join(missing)} missing in {registry}: reinstall basicsr-lmlt.")
        yield (
            registry.removesuffix("_REGISTRY").lower(),
            ", ".join(
                name if holds_ours(registry, name) else f"{name} (yours, from {home})"
                for name, home in names.items()
                if home
            ),
        )


def _training_step(problems: list[str]) -> Rows:
    """Forward and backward of a small LMLT built by BasicSR, with both losses of its option files."""
    import torch

    from lmlt_arch.names import holds_ours

    if not holds_ours("ARCH_REGISTRY", "LMLT"):
        yield "not tried", "LMLT is yours"
        return
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
