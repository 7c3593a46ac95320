"""Generation from a composite: requests in, responses out; plain or speculative, batched."""

from eft_eval.decoding.drafting import draft_view
from eft_eval.decoding.loop import Decoder
from eft_eval.decoding.requests import Generation, Request, SamplingRule, StopTest
from eft_eval.decoding.statistics import DecodingStatistics

__all__ = [
    "Decoder",
    "DecodingStatistics",
    "Generation",
    "Request",
    "SamplingRule",
    "StopTest",
    "draft_view",
]
