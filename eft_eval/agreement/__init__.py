"""Agreement: how far judge and people agree, who is right where they differ, and what follows.

The statistics are pure functions on numbers; `agree` puts them into one report. `agree_files` and
`correct_metrics` join label files and runs to them. Loads neither torch nor lm-eval.
"""

from __future__ import annotations

from eft_eval.agreement.agree import Method, agree
from eft_eval.agreement.correct import Correction, correct_metrics, correct_run
from eft_eval.agreement.join import agree_files, agree_labels
from eft_eval.agreement.label_reading import LabelReading, LabelTable, read_label_table
from eft_eval.agreement.report import Agreement, CorrectedMetric, CorrectedRun, Counted, Rater
from eft_eval.statistics.alpha import Alpha, krippendorff_alpha
from eft_eval.statistics.alternative_test import (
    AlternativeTest,
    AnnotatorTest,
    alternative_annotator_test,
    benjamini_yekutieli,
)
from eft_eval.statistics.ceiling import AnnotatorCeiling, Ceiling, leave_one_out
from eft_eval.statistics.consensus import Consensus, majority, mean_rating
from eft_eval.statistics.correction import Corrected, correct_mean
from eft_eval.statistics.gold_outcome import GoldOutcome, gold_outcome, gold_outcome_of_counts
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.kappa import Kappa, cohen_kappa
from eft_eval.statistics.label_planning import LabelPlan, MixPlan, cheapest_mix, labels_needed
from eft_eval.statistics.means import (
    Mean,
    Proportion,
    clustered_standard_error,
    finite_population_factor,
    mean_with_interval,
    proportion,
    proportion_standard_error,
    wilson_interval,
)
from eft_eval.statistics.pairs import PairAgreement, RawScale, pair_agreement
from eft_eval.statistics.panel import PairOfAnnotators, PanelAgreement, panel_agreement
from eft_eval.statistics.ratings import Clusters, Panel, Ratings, Rule
from eft_eval.statistics.rogan_gladen import Prevalence
from eft_eval.statistics.sampling import GoldDraw, draw_for_gold
from eft_eval.statistics.tables import ConstantBaseline, McNemar, mcnemar

__all__ = [
    "Agreement",
    "Alpha",
    "AlternativeTest",
    "AnnotatorCeiling",
    "AnnotatorTest",
    "Ceiling",
    "Clusters",
    "Consensus",
    "ConstantBaseline",
    "Corrected",
    "CorrectedMetric",
    "CorrectedRun",
    "Correction",
    "Counted",
    "GoldDraw",
    "GoldOutcome",
    "Interval",
    "Kappa",
    "LabelPlan",
    "LabelReading",
    "LabelTable",
    "McNemar",
    "Mean",
    "Method",
    "MixPlan",
    "PairAgreement",
    "PairOfAnnotators",
    "Panel",
    "PanelAgreement",
    "Prevalence",
    "Proportion",
    "Rater",
    "Ratings",
    "RawScale",
    "Rule",
    "agree",
    "agree_files",
    "agree_labels",
    "alternative_annotator_test",
    "benjamini_yekutieli",
    "cheapest_mix",
    "clustered_standard_error",
    "cohen_kappa",
    "correct_mean",
    "correct_metrics",
    "correct_run",
    "draw_for_gold",
    "finite_population_factor",
    "gold_outcome",
    "gold_outcome_of_counts",
    "krippendorff_alpha",
    "labels_needed",
    "leave_one_out",
    "majority",
    "mcnemar",
    "mean_rating",
    "mean_with_interval",
    "pair_agreement",
    "panel_agreement",
    "proportion",
    "proportion_standard_error",
    "read_label_table",
    "wilson_interval",
]
