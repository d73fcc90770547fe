"""Full float32 precision in the middle of a training that gave some of it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_FULL = "highest"


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Switch autocast and TF32 products off for a while.

    TF32 has 11 significant bits: too few for the coefficients of JPEG, which reach 1024 and are rounded.
    """
    with ExitStack() as undo:
        undo.enter_context(torch.autocast(device_type, enabled=False))
        # PyTorch 2.9 and later have a second switch, and raise errors where the two contradict each other:
        # the one that was used is the one to turn.
        products = torch.backends.cuda.matmul
        chosen = _older_switch()
        if chosen != _FULL:
            undo.callback(torch.set_float32_matmul_precision, chosen)
            torch.set_float32_matmul_precision(_FULL)
        elif getattr(products, "fp32_precision", None) == "tf32":
            undo.callback(setattr, products, "fp32_precision", "tf32")
            products.fp32_precision = "ieee"
        yield


def _older_switch() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        # It contradicts the newer one, which counts.
        return _FULL
