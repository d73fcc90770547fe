"""CUDA graphs: the kernels of a forward pass recorded once and started by one call.

On a GPU, starting its kernels one by one takes longer than running them for small images.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

# Recordings that are kept; each holds the memory of a forward pass.
_MOST = 2
# Pixels of lq that are recorded at most. For more, kernels run longer than it takes to start them.
_LARGEST = 1 << 18

Run = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]


class GraphedNetwork:
    """Runs a network; small sizes that repeat, such as those of frames, from a recording.

    A recording is used if it once returned the network's output, bit for bit, for other images than those
    that it was made with. Calls on another thread or stream meanwhile run the network itself.

    Args:
        network: maps images (B, 3, h, w) on a CUDA device to others; its weights stay where they are.
    """

    def __init__(self, network: Run) -> None:
        self._network = network
        self._reset()

    def _reset(self) -> None:
        self._recordings: OrderedDict[Shape, _Recording] = OrderedDict()
        self._last: Shape | None = None
        self._usable = True
        self._busy = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which make recordings of their own."""
        return {"_network": self._network}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of `__getstate__`."""
        self._network = state["_network"]
        self._reset()

    def __call__(self, lq: Tensor) -> Tensor:
        """Upscale."""
        if lq.shape[0] * lq.shape[-2] * lq.shape[-1] <= _LARGEST and self._busy.acquire(blocking=False):
            try:
                recording = self._recording(lq)
                if recording is not None:
                    return recording(lq)
            finally:
                self._busy.release()
        try:
            return self._network(lq)
        except torch.OutOfMemoryError:
            if not self._recordings:
                raise
        # Outside of the handler, whose exception keeps the failed tensors alive.
        self._forget()
        return self._network(lq)

    def _recording(self, lq: Tensor) -> _Recording | None:
        """The recording for a size, made when the size is seen twice in a row; None if there is none."""
        size = tuple(lq.shape)
        again, self._last = size == self._last, size
        if size not in self._recordings and again and self._usable:
            self._record(lq)
        found = self._recordings.get(size)
        if found is None or found.stream != torch.cuda.current_stream(lq.device):
            return None
        self._recordings.move_to_end(size)
        return found

    def _record(self, lq: Tensor) -> None:
        while len(self._recordings) >= _MOST:
            self._recordings.popitem(last=False)
        # Out of memory, or an operator that cannot be recorded: then the network itself runs, or raises.
        with suppress(RuntimeError):
            recording, others = _Recording(self._network, lq), 1 - lq
            if torch.equal(recording(others), self._network(others)):
                self._recordings[tuple(lq.shape)] = recording
                return
        self._usable = False
        self._forget()

    def _forget(self) -> None:
        """Give back the memory of all recordings."""
        self._recordings.clear()
        torch.cuda.empty_cache()


class _Recording:
    """A forward pass for images of one size.

    Attributes:
        stream: the only one on which it is safe.
    """

    def __init__(self, network: Run, lq: Tensor) -> None:
        self.stream = torch.cuda.current_stream(lq.device)
        self._graph = torch.cuda.CUDAGraph()
        # Ordinary tensors work with and without inference mode. The stream belongs to the images' device,
        # whichever is the current one, and is left also if the recording fails.
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(lq.device):
            self._lq = lq.clone()
            recorder = torch.cuda.Stream()
            with (
                torch.cuda.stream(recorder),
                # Other threads may work meanwhile, such as copies of frames.
                torch.cuda.graph(self._graph, stream=recorder, capture_error_mode="thread_local"),
            ):
                self._output = network(self._lq)

    def __call__(self, lq: Tensor) -> Tensor:
        self._lq.copy_(lq)
        self._graph.replay()
        # The next run writes to the same place.
        return self._output.clone()
