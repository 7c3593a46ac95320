"""Libraries that train and load, without bars and remarks in which the progress would drown."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_libraries"]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Let transformers, datasets and trl say nothing but errors."""
    import datasets
    from transformers.utils import logging

    bars = (logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled())
    level = logging.get_verbosity()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars[0]:
            logging.enable_progress_bar()
        if not bars[1]:
            datasets.enable_progress_bars()
