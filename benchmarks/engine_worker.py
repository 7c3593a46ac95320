"""A composite in one engine, which answers orders on its input with lines of JSON."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


def resident() -> int:
    """Return the bytes of memory that this process has now."""
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * resource.getpagesize()


def forget_peak() -> None:
    """Let the kernel begin its record of the most memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def most_resident() -> int:
    """Return the most memory that this process had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def main(job: Answer) -> None:
    """Load, then answer until the input ends."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # so that memory is this process's own
    engine: Any = OnVLLM(job) if job["engine"] == "vllm" else OnTransformers(job)
    orders: dict[str, Callable[..., Answer]] = {
        "generate": engine.generate,
        "memory": engine.memory,
        "cost": engine.cost,
        "hardware": hardware,
    }
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(orders[order.pop("do")](**order)), flush=True)


def hardware() -> Answer:
    """Return this CPU's figures, by processor time: on one thread, other work does not count."""
    from eft_eval.plans.processor import measured_processor

    measured = measured_processor(time.process_time)
    gc.collect()
    forget_peak()  # its matrix is no part of the run
    return {"processor": measured}


class _Engine:
    """What both engines share."""

    def __init__(self, job: Answer) -> None:
        self.job = job
        self.before = 0
        self.loading = 0

    def begin(self) -> None:
        """Note the memory of the imports."""
        gc.collect()
        forget_peak()
        self.before = resident()

    def loaded(self) -> None:
        """Begin the record of the peak: files that were mapped while they were read are gone."""
        gc.collect()
        self.loading = most_resident() - self.before
        forget_peak()

    def requests(self, prompts: list[list[int]]) -> list[Any]:
        from eft_eval.decoding.requests import Request

        return [Request((prompt,) * 3) for prompt in prompts]

    def cost(self) -> Answer:
        """Return each member's time per token in terms of the tuned one's."""
        raise NotImplementedError  # each engine has a way of its own


class OnVLLM(_Engine):
    """The composite as a vLLM model."""

    def __init__(self, job: Answer) -> None:
        super().__init__(job)
        import vllm.v1.engine.llm_engine
        import vllm.v1.worker.cpu_worker  # noqa: F401  # what an engine imports when it starts

        from eft_eval.api import Composite

        recipe = {**job["members"], "block": job["block"]}
        self.begin()
        self.composite = Composite.load(
            recipe, engine="vllm", enforce_eager=True, max_num_seqs=job["rows"],
            max_model_len=256, dtype="float32", enable_prefix_caching=False,
            kv_cache_memory_bytes=job["caches"],
        )  # fmt: skip
        assert self.composite._vllm is not None
        self.engine = self.composite._vllm
        for cache in self._runner().kv_caches:  # as if all were in use: what is zero takes no room
            cache.fill_(0.0)
        self.loaded()

    def _runner(self) -> Any:
        core = self.engine.llm.llm_engine.engine_core.engine_core
        return core.model_executor.driver_worker.worker.model_runner

    def generate(self, prompts: list[list[int]], rows: int, limit: int) -> Answer:
        """Generate; one prompt at a time with one row, else as the engine likes."""
        from eft_eval.decoding.requests import SamplingRule

        asked = self.requests(prompts)
        groups = [[one] for one in asked] if rows == 1 else [asked]
        spent, start = time.process_time(), time.perf_counter()
        made = [
            answer.tokens
            for group in groups
            for _, answer in self.engine.responses(group, SamplingRule(), limit)
        ]
        seconds = time.perf_counter() - start
        return {"tokens": made, "seconds": seconds, "processor": time.process_time() - spent}

    def memory(self) -> Answer:
        """Return the peak over that of the imports, and vLLM's weights and caches.

        Weights are those of the checkpoints: on a CPU vLLM keeps most of them in an order of its
        kernels' own, in place of parameters. Embeddings and output layers, tied or not, it keeps
        in that order as well, each: ``tables``.
        """
        statistics = self.engine.statistics().record().as_dict()
        runner = self._runner()
        drafted = getattr(runner, "drafter", None) is not None
        folders = [*self.job["members"].values()] + [self.job["members"]["tuned"]] * drafted
        models = [runner.model, *([runner.drafter.model] if drafted else [])]
        layers = [layer for model in models for layer in model.modules()]
        tables = {
            id(layer): layer.weight.nbytes
            for layer in layers
            if hasattr(layer, "cpu_linear") and layer.weight.numel()
        }
        caches = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in runner.kv_caches
        }
        return {
            "imports": self.before,
            "peak": most_resident() - self.before,
            "peak_while_loading": self.loading,
            "weights": sum(
                file.stat().st_size
                for folder in folders
                for file in Path(folder).glob("*.safetensors")
            ),
            "tables": sum(tables.values()),
            "caches": sum(caches.values()),
            "statistics": statistics,
        }


class OnTransformers(_Engine):
    """The composite in our own decoding loop."""

    def __init__(self, job: Answer) -> None:
        super().__init__(job)
        import transformers.models.llama.modeling_llama  # noqa: F401  # not counted as memory

        from eft_eval.api import Composite
        from eft_eval.decoding.loop import Decoder

        self.begin()
        self.composite = Composite.load({**job["members"], "block": job["block"]}, device="cpu")
        for view in self.composite.views:
            _ = view.member.engine
        self.decoder = Decoder(self.composite, job["block"])
        self.loaded()

    def generate(self, prompts: list[list[int]], rows: int, limit: int) -> Answer:
        """Generate, ``rows`` at a time."""
        from eft_eval.decoding.requests import SamplingRule

        spent, start = time.process_time(), time.perf_counter()
        made = self.decoder.generate(self.requests(prompts), SamplingRule(), limit, batch_size=rows)
        seconds = time.perf_counter() - start
        tokens = [one.tokens for one in made]
        return {"tokens": tokens, "seconds": seconds, "processor": time.process_time() - spent}

    def memory(self) -> Answer:
        """Return the peak over that of the imports."""
        return {
            "imports": self.before,
            "peak": most_resident() - self.before,
            "peak_while_loading": self.loading,
            "statistics": self.decoder.statistics.record().as_dict(),
        }

    def cost(self) -> Answer:
        """Return the members' times of a step of one row, the tuned one's being 1."""
        from benchmarks.deepening import cost_per_token

        roles = ("base", "tuned", "reference")
        costs = cost_per_token([self.composite.members[role].model for role in roles])
        return {"cost": [cost / costs[1] for cost in costs]}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
