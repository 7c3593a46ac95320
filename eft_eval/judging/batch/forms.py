"""The form in which an endpoint takes the requests of batches, from one process to the next."""

from __future__ import annotations

from eft_eval.judging.batch.files import Answers
from eft_eval.judging.batch.jobs import BatchJob, BatchStates
from eft_eval.judging.judges.adapting import Form, adapted, form_at, remember
from eft_eval.judging.judges.client import mask
from eft_eval.judging.judges.endpoint import EndpointJudge
from eft_eval.judging.settings import JudgeSettings
from eft_eval.streams import logger

__all__ = ["learnt_form", "recall_form"]

_log = logger("eft_eval.judging")


def recall_form(states: BatchStates, settings: JudgeSettings) -> None:
    """Take over the form that the newest collected batch says the endpoint takes."""
    judge = EndpointJudge(settings)
    known = [
        job.form
        for job in states.jobs()
        if job.state == "collected" and (job.endpoint, job.model) == (judge.place, judge.name)
    ]
    if known and known[-1] and form_at(judge.place, judge.name) == Form():
        remember(judge.place, judge.name, Form(known[-1]))


def learnt_form(job: BatchJob, judge: EndpointJudge, answers: Answers) -> Form:
    """Return the form in which the endpoint would take a batch's requests; one line on a change.

    Args:
        job: The batch.
        judge: Its judge.
        answers: What came back.
    """
    before = Form(job.form)
    form, why = before, ""
    for error in answers.refusals:
        # each by itself, as all were said to requests of the same form
        better = adapted(before, judge.body("", before), error)
        if better is not None:
            form, why = Form({**form.changes, **better.changes}), why or error.words
    if form != before:
        remember(judge.place, judge.name, form)
        _log.warning(
            "%s: asked %s from the next submit on (%s)",
            judge.place,
            form.told(before),
            mask(why, judge.settings),
        )
    return form
