"""Identification of a BasicSR by its files: a published release, the project's own checkout, or a fork."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# Digests of the sdists on PyPI. That of 1.3.5 differs from the one before in its version only.
RELEASES = {
    "6c508791244ae04e60d89f41627774bf629f65045353516acf88a87696641fca": ("1.3.5", "1.3.4.9"),
    "2e68f7bad3a304987123556dc3c2793af8e3be910f53d7b68a23d09eb583d78d": ("1.4.0",),
    "354758ddd840b6146f3b509dfa56478f7aec31a0980e17ef2155b6f68fd0699b": ("1.4.1",),
    "457df27f3eaceca492b320f26472496d403bf31986880f44ebe89ec79a307dd2": ("1.4.2",),
}

_PROJECT = re.compile(r"github\.com[:/](xinntao|XPixelGroup)/BasicSR\b", re.IGNORECASE)


def describe(package: Path) -> str:
    """Version of the BasicSR in a folder, and whether it is a release, without importing it."""
    version = _version(package)
    released = RELEASES.get(digest(package), ())
    if released:
        return f"{version if version in released else released[0]}, as released"
    version = version or "no version"
    if _is_of_the_project(package):
        return f"{version}, between releases (git checkout)"
    if any(version in versions for versions in RELEASES.values()):
        return f"{version}, unlike the release {version}: a fork or a changed copy"
    return f"{version}, none of the releases {_range()}: another one, a fork or a changed copy"


def digest(package: Path) -> str:
    """SHA-256 over names and contents of the Python files, whatever their line ends; version.py is built."""
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    whole = hashlib.sha256()
    for name in sorted(files.keys() - {"version.py"}):
        whole.update(f"{name}\n".encode())
        whole.update(files[name].read_bytes().replace(b"\r\n", b"\n"))
    return whole.hexdigest()


def _version(package: Path) -> str:
    """The version in version.py, or in the file it is built from; '' without either."""
    if (built := package / "version.py").is_file():
        found = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", _text(built), re.MULTILINE)
        return found[1] if found else ""
    return _text(package.parent / "VERSION").strip()


def _is_of_the_project(package: Path) -> bool:
    """Whether this is a clone of BasicSR's own repository, or pip installed it from there."""
    origins = [package.parent / ".git/config", *package.parent.glob("basicsr-*.dist-info/direct_url.json")]
    return any(_PROJECT.search(_text(origin)) for origin in origins)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _range() -> str:
    versions = [version for group in RELEASES.values() for version in group]
    return f"{min(versions)} to {max(versions)}"
