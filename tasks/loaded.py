"""The task class of tasks whose documents a function of ours loads."""

from __future__ import annotations

from typing import Any

from lm_eval.api.task import ConfigurableTask


class LoadedTask(ConfigurableTask):  # type: ignore[misc]  # lm-eval ships no types
    """A task that loads its documents as lm-eval's own class does, without its advice.

    lm-eval tells of every task with a function for its documents, as a warning, that the function
    may be given arguments with ``--metadata``; whoever set nothing has nothing to be warned of.
    """

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the documents.

        Args:
            dataset_kwargs: The YAML's.
            kwargs: Of lm-eval's own class.
        """
        load = self.config.custom_dataset
        if callable(load):
            self.dataset = load(
                **(self.config.metadata or {}), **(self.config.dataset_kwargs or {})
            )
        else:
            super().download(dataset_kwargs, **kwargs)
