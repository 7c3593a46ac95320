"""Comparing: runs read into typed records, paired with each other, and gated.

`read_run` reads what lm-eval wrote (or a baseline), `compare_runs` makes one `Comparison`, which
every report projects. Loads neither torch nor lm-eval.
"""

from __future__ import annotations

from eft_eval.comparing.bless import bless
from eft_eval.comparing.compare import compare_runs
from eft_eval.comparing.comparison import (
    Candidate,
    Change,
    Comparison,
    Decision,
    DifferenceBounds,
    Row,
    RunName,
    Side,
)
from eft_eval.comparing.settings import GateSettings, MetricSettings, read_settings
from eft_eval.runs.lines import iter_samples
from eft_eval.runs.reading import read_run, read_runs
from eft_eval.runs.records import (
    Column,
    Group,
    ItemSeen,
    JudgeSeen,
    MetricKey,
    Pipeline,
    Problem,
    Run,
    Sample,
    TaskRun,
)
from eft_eval.statistics.document_planning import ComparePlan, plan_comparison
from eft_eval.statistics.paired import (
    Difference,
    PairedTest,
    holm,
    paired_difference,
    paired_test,
    sign_flip_test,
)

__all__ = [
    "Candidate",
    "Change",
    "Column",
    "ComparePlan",
    "Comparison",
    "Decision",
    "Difference",
    "DifferenceBounds",
    "GateSettings",
    "Group",
    "ItemSeen",
    "JudgeSeen",
    "MetricKey",
    "MetricSettings",
    "PairedTest",
    "Pipeline",
    "Problem",
    "Row",
    "Run",
    "RunName",
    "Sample",
    "Side",
    "TaskRun",
    "bless",
    "compare_runs",
    "holm",
    "iter_samples",
    "paired_difference",
    "paired_test",
    "plan_comparison",
    "read_run",
    "read_runs",
    "read_settings",
    "sign_flip_test",
]
