"""What is tried out at load: as far as windows reach, and no pass twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_model
from transformers import AutoModelForCausalLM, Cache
from windowed_models import save_windowed

from eft_eval.engine.passes import Passes
from eft_eval.engine.trial import Trial


def passes_of(folder: str) -> Passes:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return Passes(model, torch.device("cpu"), "tuned member")


@pytest.mark.parametrize("window", [6, 24])
def test_a_cache_that_forgets_beyond_a_window_is_found(
    tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a trial are shorter than real windows."""
    passes = passes_of(save_windowed(tmp_path / "m", "Mistral", window))
    assert Trial(passes).plain().reason is None
    update = Cache.update

    def forgets(self: Any, keys: Any, values: Any, layer: int, *rest: Any, **named: Any) -> Any:
        found = update(self, keys, values, layer, *rest, **named)
        size = passes.text.sliding_window
        if found[0].shape[2] >= size:
            for one in found:
                one[:, :, -size] = 0
        return found

    monkeypatch.setattr(Cache, "update", forgets)
    way = Trial(passes).plain()
    assert not way.cache
    assert "every token reads its row from the beginning" in str(way.reason)


def test_a_window_that_only_the_configuration_has_is_tried_out_as_it_is(tmp_path: Path) -> None:
    """A model that has read its window when it was made does not follow a shorter one."""
    passes = passes_of(save_windowed(tmp_path / "m", "Mistral", 24))
    right = passes._run

    def own(tokens: Any, keep: int, **options: Any) -> Any:
        if options["use_cache"]:
            return right(tokens, keep, **options)
        asked, passes.text.sliding_window = passes.text.sliding_window, 24
        try:
            return right(tokens, keep, **options)
        finally:
            passes.text.sliding_window = asked

    passes._run = own  # type: ignore[method-assign]
    assert Trial(passes).plain().reason is None


def test_no_row_is_read_twice_in_one_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, read = passes_of(make_model(tmp_path / "m")), []
    right = Passes.logits

    def noted(self: Passes, inputs: Any, lengths: Any) -> Any:
        read.append(tuple(map(tuple, inputs)))
        return right(self, inputs, lengths)

    monkeypatch.setattr(Passes, "logits", noted)
    trial = Trial(passes)
    with torch.inference_mode():
        assert trial.trees() is None
        assert trial.plain().reason is None
    assert len(read) == len(set(read)) > 0
