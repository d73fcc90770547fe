"""Each failure of `import basicsr` on today's libraries, and on tomorrow's, with and without its patch."""

from __future__ import annotations

import argparse
import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.throwaway import Environment

from lmlt_arch.hook import patches
from lmlt_arch.hook.patches import imports

# Python 3.12 without setuptools has no distutils, SciPy 2 will have no ndimage.filters: neither has this
# interpreter after these lines. Torch is loaded first, since parts of it use what is taken away.
TOMORROW = """
    import sys
    import scipy.ndimage
    import torch.utils.tensorboard

    GONE = ("distutils", "scipy.ndimage.filters", "torchvision.transforms.functional_tensor")

    class Gone:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.startswith(GONE):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.startswith(GONE)]:
        del sys.modules[name]
    vars(scipy.ndimage).pop("filters", None)
    sys.meta_path.insert(0, Gone)
"""


@pytest.fixture(scope="module")
def tomorrow(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a torchvision whose library cannot load, as that of a wheel for another torch."""
    folder = tmp_path_factory.mktemp("tomorrow")
    farm = Path((installed.site / "libraries.pth").read_text().strip())
    real = (farm / "torchvision").resolve()
    (folder / "torchvision").mkdir()
    for item in real.iterdir():
        if not item.name.startswith(("_C", "__pycache__")):
            (folder / "torchvision" / item.name).symlink_to(item)
    (folder / "torchvision" / "_C.so").write_bytes(b"not a library")
    return folder


@pytest.mark.slow
def test_all_patches_together(installed: Environment, tomorrow: Path) -> None:
    said = installed.script(
        TOMORROW
        + """
    import basicsr
    import numpy
    from basicsr.data.data_util import duf_downsample
    from lmlt_arch.hook import patching

    print(*patching.applied)
    # Nobody else gets to see what stood in for the modules that are gone.
    assert not [name for name in sys.modules if name.startswith(GONE)]
    duf_downsample(torch.rand(1, 2, 3, 16, 16), scale=2)
    noise = numpy.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=numpy.uint8)
    assert numpy.isfinite(basicsr.calculate_niqe(noise, crop_border=0))
    """,
        cwd=tomorrow,
    )
    names = {"torchvision-library", "functional-tensor", "distutils-version", "scipy-filters-in-niqe"}
    assert names | {"scipy-filters-in-duf-downsample"} <= set(said.split())


FAILURES = {
    "torchvision-library": "operator torchvision::nms does not exist",
    "functional-tensor": "No module named 'torchvision.transforms.functional_tensor'",
    "distutils-version": "No module named 'distutils",
    "scipy-filters-in-niqe": "No module named 'scipy.ndimage.filters'",
    "scipy-filters-in-duf-downsample": "cannot import name 'filters' from 'scipy.ndimage'",
}


@pytest.mark.slow
def test_without_one_patch(installed: Environment, tomorrow: Path) -> None:
    """Each in a process of its own, forked from one that has loaded torch and SciPy."""
    said = installed.script(
        TOMORROW
        + f"""
    import os
    import scipy.stats

    for name in {[*FAILURES]}:
        if os.fork() == 0:
            os.environ["LMLT_SKIP_MENDS"] = name
            try:
                import basicsr.data.data_util
                basicsr.data.data_util.duf_downsample(torch.rand(1, 2, 3, 16, 16), scale=2)
                print(name, "was not missed")
            except Exception as error:
                print(name, str(error).splitlines()[0])
            sys.stdout.flush()
            os._exit(0)
        os.wait()
    """,
        cwd=tomorrow,
    )
    found = dict(line.split(" ", 1) for line in said.splitlines() if line.startswith(tuple(FAILURES)))
    assert found.keys() == FAILURES.keys()
    for name, failure in FAILURES.items():
        assert failure in found[name], name


def test_no_stand_in_where_the_import_is_gone(tmp_path: Path) -> None:
    """Master imports `transforms.functional` already: nothing to patch, though the old module is gone too."""
    import basicsr  # noqa: F401

    (patch,) = [patch for patch in patches.all_patches() if patch.name == "functional-tensor"]
    source = tmp_path / "degradations.py"
    source.write_text("from torchvision.transforms.functional import rgb_to_grayscale\n")
    assert not patch.needed({"__file__": str(source)})
    source.write_text("from torchvision.transforms.functional_tensor import rgb_to_grayscale\n")
    assert patch.needed({"__file__": str(source)})


@pytest.mark.parametrize(
    ("smaller", "larger"), [("0.9.0", "0.28.0+cpu"), ("1.13.1", "2.0"), ("2.6", "2.6.1"), ("0.9", "0.10")]
)
def test_loose_versions_are_ordered(smaller: str, larger: str) -> None:
    low, high = imports.LooseVersion(smaller), imports.LooseVersion(larger)
    assert low < high
    assert high >= low
    assert low != high
    assert low == imports.LooseVersion(smaller)


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1.5),
        np.int64(3),
        np.bool_(True),
        argparse.Namespace(opt="x.yml"),
        Path("x"),
        collections.defaultdict(list, a=[1]),
    ],
)
def test_plain_values_in_checkpoints(value: object, tmp_path: Path) -> None:
    known = torch.serialization.get_safe_globals()
    (patch,) = (each for each in patches.all_patches() if each.name == "plain-values-in-checkpoints")
    torch.save({"value": value}, tmp_path / "x.state")
    try:
        torch.serialization.clear_safe_globals()
        with pytest.raises(pickle.UnpicklingError, match="was not an allowed global"):
            torch.load(tmp_path / "x.state")
        patch.run()
        assert torch.load(tmp_path / "x.state")["value"] == value
        torch.save({"value": print}, tmp_path / "x.state")
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "x.state")
    finally:
        torch.serialization.add_safe_globals(known)
