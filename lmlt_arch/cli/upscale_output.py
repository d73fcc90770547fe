"""What `lmlt upscale` prints: progress bars, JSON lines, notes and the summary."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lmlt_arch.cli.streams import one_line

if TYPE_CHECKING:
    from lmlt_arch.inference.files import FileProgress, Result


class FileBars:
    """A bar for all images, and then one for each video; on a terminal only.

    Args:
        show: False for no bar in any case.
    """

    def __init__(self, *, show: bool) -> None:
        self._disable = None if show else True
        self._bar: tqdm[Any] | None = None
        self._of: object = None

    def __call__(self, progress: FileProgress) -> None:
        """Show how much of the work is done."""
        if self._bar is None or progress.job is not self._of:
            self.close()
            self._bar, self._of = self._started(progress), progress.job
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)

    def _started(self, progress: FileProgress) -> tqdm[Any]:
        if progress.job is not None:
            return tqdm(desc=one_line(progress.job.source.name), unit="frame", disable=self._disable)
        bar_format = "{l_bar}{bar}| {n:.1f}/{total} images [{elapsed}<{remaining}]"
        return tqdm(total=progress.total, bar_format=bar_format, disable=self._disable)

    def close(self) -> None:
        """Leave the last bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> FileBars:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def as_json(result: Result) -> dict[str, Any]:
    """The JSON object of a result; sizes are width and height."""
    return {
        "input": str(result.job.source),
        "output": str(result.job.target),
        "status": result.status,
        "size": list(reversed(result.before)) if result.before else None,
        "output_size": list(reversed(result.after)) if result.after else None,
        "error": result.error,
        "notes": list(result.notes),
    }


def report(results: list[Result], output: Path, seconds: float, *, json_lines: bool) -> None:
    """Print what failed, the notes, and how many were upscaled; or the counts as a JSON object."""
    done = [result for result in results if result.status == "done"]
    failed = [result for result in results if result.status == "failed"]
    skipped = len(results) - len(done) - len(failed)
    if json_lines:
        counts = {"done": len(done), "skipped": skipped, "failed": len(failed), "seconds": round(seconds, 3)}
        print(json.dumps(counts))
        return
    # All names that clash have the same error: once is enough.
    for error, _ in dict.fromkeys((result.error or "", result.before and result.job) for result in failed):
        print(f"lmlt upscale: {one_line(error)}", file=sys.stderr)
    _print_notes(done)
    words = [f"{len(done)} upscaled to {output} in {seconds:.1f} s"]
    if skipped:
        words.append(f"{skipped} skipped, being there already (--overwrite replaces them)")
    if failed:
        words.append(f"{len(failed)} failed")
    print(", ".join(words))


def _print_notes(results: list[Result]) -> None:
    """Each note once, with the first file that it is about."""
    noted: dict[str, list[Path]] = {}
    for result in results:
        for note in result.notes:
            noted.setdefault(note, []).append(result.job.source)
    for note, files in noted.items():
        others = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        print(f"lmlt upscale: note: {one_line(str(files[0]))}{others}: {note}", file=sys.stderr)
