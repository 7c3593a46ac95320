"""Recording without a GPU: what a CUDA graph does, operation by operation.

The first time, the operations of some work are noted with the very tensors that they read and
wrote. Replayed, they run again on these, and whatever the host did between them is not done again.
The host must not look at a value meanwhile, as while a CUDA graph is captured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eft_eval.engine.graphs import Work

_READS = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "cpu", "numpy",
          "nonzero", "equal", "allclose", "masked_select"}  # fmt: skip
_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "item"}


class HostReads(TorchFunctionMode):
    """Notes where the host looks at what a device made."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _READS or (name == "__getitem__" and _has_mask(args[1])):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


class _NoWaits(TorchDispatchMode):
    """Refuses operations for which a host waits for its device; notes the others."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name.startswith(("index", "_index")) and len(args) > 1 and _has_mask(args[1])
        if name in _WAITS or masked:
            raise RuntimeError(f"the host waits for {name}")
        out = func(*args, **(kwargs or {}))
        self.noted.append((func, args, kwargs or {}, out))
        return out


def _has_mask(place: Any) -> bool:
    """Whether an index holds truth values, so that the result's size depends on them."""
    return any(getattr(one, "dtype", None) is not None and not one.is_floating_point()
               and one.element_size() == 1 for one in tree_leaves(place)
               if isinstance(one, Tensor))  # fmt: skip


class Recorder:
    """Records as `eft_eval.engine.graphs.Record` says, and counts."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, work: Work) -> Work:
        self.recorded += 1
        with _NoWaits() as mode:
            work()

        def replay() -> None:
            self.replayed += 1
            for func, args, kwargs, out in mode.noted:
                again = func(*args, **kwargs)
                for place, value in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                        place.copy_(value)

        return replay


def no_waits(work: Work) -> Work:
    """Record nothing, but refuse to wait."""
    with _NoWaits():
        work()
    return work


class Shapes:
    """Does work anew, and refuses other operations or shapes than those of the first time."""

    def __init__(self) -> None:
        self.recorded = self.repeated = 0

    def __call__(self, work: Work) -> Work:
        self.recorded += 1
        first = self._signature(work)

        def again() -> None:
            self.repeated += 1
            assert self._signature(work) == first

        return again

    def _signature(self, work: Work) -> list[tuple[str, list[tuple[int, ...]]]]:
        with _NoWaits() as mode:
            work()
        return [
            (str(func), [tuple(one.shape) for one in tree_leaves((args, out)) if _is_tensor(one)])
            for func, args, _, out in mode.noted
        ]


def _is_tensor(one: Any) -> bool:
    return isinstance(one, Tensor)
