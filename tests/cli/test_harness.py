"""What `eft-eval run` reads of our own task files before lm-eval is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from eft_eval import hook
from eft_eval.cli.harness import our_tasks


def test_tasks_that_ask_a_judge_are_known() -> None:
    free = {"demo", "demo_fact", "demo_help", "demo_harm"}
    judged = {f"{data}{end}" for data in ("eli5", "hh") for end in ("", "_fact", "_help")}
    asks = dict.fromkeys(free, False) | dict.fromkeys(judged | {"hh_harm", "eft_paper"}, True)
    assert our_tasks() == asks


def test_task_files_are_read_as_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However YAML spells it; what an include says holds unless the task says otherwise."""
    files = {
        "a.yaml": "class: !function no.such.module\n"
        "filter_list: [{name: j, filter: [{prompt: harm, function: 'eft_judge'}]}]\n"
        "task: 'a-task'  # quoted, last\n",
        "sub/b.yaml": "task: b\ninclude: ../a.yaml\n",
        "sub/c.yaml": "task: c\ninclude: b.yaml\nfilter_list:\n- name: n\n  filter:\n"
        "  - {function: take_first}\n",
        "d.yaml": "task: d\ndoc_to_text: |\n  function: eft_judge\n",
        "g.yaml": "task: [c, d]\ngroup: free\n",
        "h.yaml": "group: judged\ntask:\n- free\n- b\n",
    }
    (tmp_path / "sub").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(hook, "task_folder", lambda: tmp_path)
    asks = {"a-task": True, "b": True, "c": False, "d": False, "free": False, "judged": True}
    assert our_tasks() == asks
