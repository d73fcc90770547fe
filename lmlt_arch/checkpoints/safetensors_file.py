"""Files of safetensors that are the same bytes each time, with a digest of themselves among their metadata.

The format: eight bytes with the length of a JSON header, the header, the tensors' bytes. The library writes
the metadata in an order that changes from process to process, and compares nothing when it reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

DIGEST = "lmlt_sha256"
"""Key of the digest: of the header without it, keys sorted, and of all that follows the header."""

_METADATA = "__metadata__"
_LENGTH = 8
_BLOCK = 1 << 20


def is_safetensors(path: str | Path) -> bool:
    """Whether a file of this name is read and written as safetensors."""
    return Path(path).suffix.lower() == ".safetensors"


def dump(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a file.

    Args:
        state: names and tensors, contiguous ones.
        metadata: text for the header.
    """
    raw = save(dict(state))
    end = _LENGTH + int.from_bytes(raw[:_LENGTH], "little")
    header = {_METADATA: dict(sorted(metadata.items())), **json.loads(raw[_LENGTH:end])}
    header[_METADATA][DIGEST] = _digest(header, [raw[end:]])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    return len(text).to_bytes(_LENGTH, "little") + text + raw[end:]


def damage(path: Path) -> str:
    """What is wrong with a file by the digest in it.

    Returns:
        Words for a message; empty if it is as it was written, or has no digest.

    Raises:
        OSError: it cannot be read.
        ValueError: its header is no JSON.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > path.stat().st_size:
            return ""  # the library refuses it
        header = json.loads(file.read(length))
        metadata = header.get(_METADATA) if isinstance(header, dict) else None
        if not isinstance(metadata, dict) or DIGEST not in metadata:
            return ""
        written = metadata.pop(DIGEST)
        found = _digest(header, iter(lambda: file.read(_BLOCK), b""))
    return "" if found == written else f"these are not the bytes that {DIGEST} in its header stands for"


def _digest(header: Mapping[str, Any], blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
