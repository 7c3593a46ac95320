"""Work on a device that is recorded once and then launched as a whole.

A GPU's small kernels take less time than a host needs to launch each of them; a CUDA graph launches
all of a pass at once. What is recorded reads and writes tensors that stay where they are, and
whatever the host decided when it was recorded stays decided. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from eft_eval.streams import logger

__all__ = ["Graphs", "Record", "Work", "cuda_graphs", "tell_of"]

log = logger("eft_eval")
_TOLD: set[str] = set()
_APART = 0.05  # standard deviations: far above what another kernel's rounding makes
_FINITE = 1e4
_COMPARED = 4096  # tokens

Work: TypeAlias = Callable[[], None]
Record: TypeAlias = Callable[[Work], Work]
"""Returns what does the same again on the same tensors."""


class Graphs:
    """Runs work that is recorded at its first time; of a kind that cannot be, as it stands.

    Args:
        record: What records; see `cuda_graphs`.

    Attributes:
        recorded: How much was recorded so far, each of which took time of its own.
    """

    def __init__(self, record: Record) -> None:
        self.recorded = 0
        self._record = record
        self._known: dict[tuple[str, Hashable], Work] = {}
        self._refused: set[str] = set()

    def run(self, kind: str, key: Hashable, work: Work, changed: Sequence[Tensor]) -> None:
        """Do some work.

        Args:
            kind: What it is called.
            key: Work of the same kind and key is the same work.
            work: It makes no tensor that is looked at later, and the host waits for nothing in it.
            changed: The tensors that it changes, of those that it makes its results from.
        """
        if (known := self._known.get((kind, key))) is not None:
            known()
        elif kind in self._refused:
            work()
        else:
            self._first(kind, key, work, changed)

    def _first(self, kind: str, key: Hashable, work: Work, changed: Sequence[Tensor]) -> None:
        self.recorded += 1
        before = [one.clone() for one in changed]
        work()  # libraries set themselves up at first use, which cannot be recorded
        expected = [one.clone() for one in changed]
        _restore(changed, before)
        try:
            replay = self._record(work)
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n", 1)[0].split())[:200]
        else:
            _restore(changed, before)
            replay()
            if not any(map(_differ, changed, expected)):
                self._known[kind, key] = replay
                return
            reason = "what was recorded gives other numbers"
        _restore(changed, expected)
        self._refused.add(kind)  # what was recorded before goes on
        tell_of(kind, reason)


def tell_of(kind: str, reason: str) -> None:
    """Say once why some work is launched bit by bit."""
    line = f"no CUDA graphs of {kind}, so that decoding is slower: {reason}"
    if line not in _TOLD:
        _TOLD.add(line)
        log.warning("%s", line)


def _restore(changed: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for one, value in zip(changed, values, strict=True):
        one.copy_(value)


def _differ(found: Tensor, expected: Tensor) -> bool:
    """Whether numbers differ by more than rounding; tokens may, where two are as good."""
    if not found.is_floating_point():
        return False
    one, other = (
        each[..., :_COMPARED].float().nan_to_num().clamp(-_FINITE, _FINITE)
        for each in (found, expected)
    )
    return bool((one - other).square().mean().sqrt() > _APART * other.std())


def cuda_graphs(device: torch.device) -> Record:
    """Return what records CUDA graphs, whose memory is shared.

    Args:
        device: A CUDA device.
    """
    pool = torch.cuda.graph_pool_handle()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's

    def record(work: Work) -> Work:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            work()  # once more: memory and workspaces of this stream
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            work()
        return graph.replay

    return record
