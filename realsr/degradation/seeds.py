"""A seed of its own for each image, which does not depend on what else there is."""

from __future__ import annotations

import hashlib


def image_seed(seed: int, name: str) -> int:
    """The seed of the image of that name in a set that has a seed: 56 bits, equal on all machines."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big")
