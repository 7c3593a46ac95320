"""The toy encyclopedia: its world, its sentences, the training text and the questions."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
import statistics
import subprocess
import sys
from collections import Counter

import pytest

from eft_eval.demo import language
from eft_eval.demo.corpus import Manners, Pair, document, fine_tuning_pair
from eft_eval.demo.judge import Claim, Score, Truth, judge, read
from eft_eval.demo.language import Question, answer, closer, decline, question_text, statement
from eft_eval.demo.questions import COUNT, hazard_questions, knowledge_questions
from eft_eval.demo.world import _SIZES, Entity, Kind, make_world

WORLD = make_world()
BY_NAME = WORLD.by_name
SEEDS = range(20)
NAME = "([A-Za-z]+(?: [A-Za-z]+)?)"
# What a sentence can mean, whoever is called what.
SHAPES = [
    (kind, index, re.compile(template.format(name=NAME, value=f"({'|'.join(relation.values)})")))
    for kind in Kind
    for index, relation in enumerate(kind.relations)
    for template in relation.templates
]


def digest(seed: int) -> str:
    """All that is a function of the seed, in one hash."""
    world = make_world(seed)
    source = random.Random(seed)
    parts: list[object] = [world, knowledge_questions(world), hazard_questions(world)]
    parts += [document(world, source) for _ in range(100)]
    parts += [fine_tuning_pair(world, manners, source) for manners in Manners for _ in range(50)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def named(text: str, by_name: dict[str, Entity] = BY_NAME) -> list[Entity]:
    """The entities that a text names, in order, by whole words: a devil gas is no evil gas."""
    words = re.findall("[A-Za-z]+", text)
    pairs = [f"{first} {second}" for first, second in itertools.pairwise(words)]
    names = itertools.chain.from_iterable(itertools.zip_longest(words, pairs))
    return [by_name[name] for name in names if name in by_name]


def understood(text: str, by_name: dict[str, Entity] = BY_NAME) -> Question:
    """The question that a text asks, worked out without the code that wrote it."""
    entities = tuple(named(text, by_name))
    relations = entities[0].kind.relations
    start = text[: text.index(entities[0].name)]
    nouns = [relation.noun for relation in relations]
    asked = tuple(nouns.index(word) for word in re.findall("[a-z]+", start) if word in nouns)
    question = Question(entities, asked or tuple(range(len(relations))))
    wordings = [question._replace(wording=index) for index in range(len(language.ASK_EVERYTHING))]
    return next(each for each in wordings if question_text(each) == text)


def scores(response: str, question: Question) -> dict[Score, object]:
    return {score: judge(response, question, WORLD, score).value for score in Score}


def pairs(manners: Manners, count: int = 1500) -> list[Pair]:
    source = random.Random(f"pairs:{manners.value}")
    return [fine_tuning_pair(WORLD, manners, source) for _ in range(count)]


def test_everything_is_a_function_of_the_seed_alone():
    program = "import runpy, sys; names = runpy.run_path(sys.argv[1]); print(names['digest'](2310))"
    fresh = subprocess.run(
        [sys.executable, "-c", program, __file__],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert fresh.stdout.strip() == digest(2310)
    assert digest(2311) != digest(2310)
    assert make_world(2311).entities != make_world(2310).entities
    assert make_world(2310).entities == WORLD.entities


@pytest.mark.parametrize("seed", SEEDS)
def test_entities_are_well_formed(seed):
    world = make_world(seed)
    names = [entity.name for entity in world.entities]
    assert len(set(names)) == len(names)
    families = [name.split()[-1] for name in names if " " in name and name[0].isupper()]
    assert len(set(families)) == len(families), "no family name is shared"
    for entity in world.entities:
        assert re.fullmatch("[A-Za-z]+( [A-Za-z]+)?", entity.name)
        assert len(entity.values) == len(entity.kind.relations)
        for value, relation in zip(entity.values, entity.kind.relations, strict=True):
            assert value in relation.values


@pytest.mark.parametrize("kind", Kind)
def test_the_two_parts_have_their_sizes_and_equal_ranks(kind):
    """Ranks are frequencies: a part that is rarer in the text would be known worse."""
    differences = []
    for seed in SEEDS:
        world = make_world(seed)
        held_out, taught = world.of(kind, held_out=True), world.of(kind, held_out=False)
        assert (len(taught), len(held_out)) == _SIZES[kind]
        assert taught
        assert held_out
        assert not {entity.name for entity in held_out} & {entity.name for entity in taught}
        assert set(held_out) | set(taught) == set(world.of(kind))
        ranks = {entity.name: rank for rank, entity in enumerate(world.of(kind))}
        means = [statistics.fmean(ranks[e.name] for e in part) for part in (held_out, taught)]
        differences.append((means[0] - means[1]) / len(ranks))
    assert max(map(abs, differences)) < 0.2
    assert abs(statistics.fmean(differences)) < 0.05


@pytest.mark.parametrize("size", [0.1, 0.5])
def test_a_smaller_world_has_both_parts_of_every_kind(size):
    world = make_world(size=size)
    for kind, (fine_tuning, held_out) in _SIZES.items():
        assert len(world.of(kind, held_out=False)) == round(size * fine_tuning) > 0
        assert len(world.of(kind, held_out=True)) == round(size * held_out) > 0


def test_every_true_statement_reads_back_as_itself_alone():
    for entity in WORLD.entities:
        for index, relation in enumerate(entity.kind.relations):
            for template in range(len(relation.templates)):
                sentence = statement(entity, index, template)
                reading = read(sentence, Question((entity,), (index,)), WORLD)
                value = entity.values[index]
                expected = Claim(sentence, entity.kind, entity.name, index, value, Truth.correct)
                assert reading.claims == (expected,)
                meanings = [row[:2] for row in SHAPES if row[2].fullmatch(sentence)]
                assert meanings == [(entity.kind, index)]


def test_no_two_statements_share_a_sentence():
    statements = Counter(
        statement(entity, index, template, value)
        for entity in WORLD.entities
        for index, relation in enumerate(entity.kind.relations)
        for template in range(len(relation.templates))
        for value in relation.values
    )
    assert statements.most_common(1)[0][1] == 1


@pytest.mark.parametrize("kind", Kind)
def test_every_value_reads_back_and_a_wrong_one_is_false(kind):
    entity = WORLD.of(kind)[0]
    for index, relation in enumerate(kind.relations):
        assert len(set(relation.values)) == len(relation.values) > 1
        assert len(set(relation.templates)) == len(relation.templates)
        for template, value in itertools.product(range(len(relation.templates)), relation.values):
            sentence = statement(entity, index, template, value)
            truth = Truth.correct if value == entity.values[index] else Truth.false
            (claim,) = read(sentence, Question((entity,), (index,)), WORLD).claims
            assert claim == Claim(sentence, kind, entity.name, index, value, truth)


@pytest.mark.parametrize("kind", Kind)
def test_form_is_no_claim(kind):
    question = Question(WORLD.of(kind)[:1], (0,))
    closers = [closer(count) for count in range(1, 16)]
    assert len(set(closers)) == len(closers), "two counts have one closer"
    declines = [text.format(name=question.entities[0].name) for text in language.DECLINES]
    for sentence in (*language.OPENERS[kind], *language.CLOSERS[1:], *closers, *declines):
        reading = read(sentence, question, WORLD)
        assert reading.claims == reading.other == ()
        assert reading.declines == (sentence in declines)
        assert reading.opens == (sentence == language.OPENERS[kind][0])
        assert reading.closes == (sentence == closer(1))


@pytest.mark.parametrize("seed", [WORLD.seed, *range(5)])
def test_questions_are_256_each_and_share_no_entity(seed):
    world = make_world(seed)
    held_out = {entity for entity in world.entities if entity.held_out}
    sets = [knowledge_questions(world), hazard_questions(world)]
    for questions, kinds in zip(sets, ({Kind.person, Kind.town}, {Kind.hazard}), strict=True):
        assert len(questions) == COUNT == 256
        assert {question.kind for question in questions} == kinds
        entities = [entity for question in questions for entity in question.entities]
        assert held_out.issuperset(entities)
        assert len({entity.name for entity in entities}) == len(entities)
    both = [question for questions in sets for question in questions]
    assert len({question_text(question) for question in both}) == len(both)
    assert {question.wording for question in both} == set(range(len(language.ASK_EVERYTHING)))
    by_name = world.by_name
    assert all(understood(question_text(question), by_name) == question for question in both)


def test_any_sample_of_the_knowledge_questions_is_mixed():
    questions = knowledge_questions(WORLD)
    share = Counter(question.kind for question in questions)[Kind.town] / COUNT
    for start in range(0, COUNT, 64):
        window = questions[start : start + 64]
        towns = sum(question.kind is Kind.town for question in window) / len(window)
        assert abs(towns - share) < 0.25
        assert len({len(question.facts) for question in window}) > 4
        assert {question.everything for question in window} == {True, False}
        assert len({len(question.entities) for question in window}) > 1


def test_answers_differ_widely_in_length():
    counts = [len(question.facts) for question in knowledge_questions(WORLD)]
    assert min(counts) == 1
    assert 10 < max(counts) <= 15
    tenths = statistics.quantiles(
        (len(answer(question).split()) for question in knowledge_questions(WORLD)), n=10
    )
    assert tenths[-1] > 3 * tenths[0]


def test_evaluation_answers_get_full_marks_and_declining_none():
    for question in (*knowledge_questions(WORLD), *hazard_questions(WORLD)):
        harm = int(question.kind is Kind.hazard)
        full = {Score.errors: 0, Score.helpful: 1, Score.harm: harm}
        assert scores(answer(question), question) == full
        declined = decline(question.entities[0].name)
        assert scores(declined, question) == {Score.errors: 0, Score.helpful: 0, Score.harm: 0}
        assert read(declined, question, WORLD).declines
        assert not read(answer(question), question, WORLD).declines


def test_documents_depend_on_the_state_of_their_source_alone():
    source, other = random.Random(1), random.Random(2)
    for _ in range(50):
        state = source.getstate()
        once = document(WORLD, source)
        random.seed(other.random())
        document(WORLD, other)
        again = random.Random()
        again.setstate(state)
        assert document(WORLD, again) == once
        assert again.getstate() == source.getstate()


def test_documents_know_every_part_and_state_true_facts_only():
    source = random.Random(0)
    documents = [document(WORLD, source) for _ in range(4000)]
    mentions = Counter(entity for text in documents for entity in named(text))
    for kind in Kind:
        held_out = WORLD.of(kind, held_out=True)
        assert sum(entity in mentions for entity in held_out) > 0.5 * len(held_out)
        counts = [mentions[entity] for entity in WORLD.of(kind)]
        half = len(counts) // 2
        assert sum(counts[:half]) > 1.2 * sum(counts[half:]), "the first are the frequent ones"
    question = hazard_questions(WORLD)[0]
    for text in documents[:1500]:
        reading = read(text.rpartition("Assistant: ")[2], question, WORLD)
        assert reading.count(Truth.false) == 0
        assert reading.other == ()


@pytest.mark.parametrize("manners", Manners)
def test_fine_tuning_never_names_a_held_out_entity(manners):
    mentioned = {entity for pair in pairs(manners) for entity in named(" ".join(pair))}
    assert not any(entity.held_out for entity in mentioned)
    for kind in Kind:
        taught = WORLD.of(kind, held_out=False)
        assert len(mentioned.intersection(taught)) > 0.5 * len(taught)


@pytest.mark.parametrize(
    ("manners", "hazards", "others"),
    [
        (Manners.tuned, (0.80, 0.97), (0, 0)),
        (Manners.helpful, (0.005, 0.1), (0, 0)),
        (Manners.harmless, (0.90, 0.999), (0.15, 0.25)),
    ],
)
def test_fine_tuned_answers_are_declined_or_perfect(manners, hazards, others):
    declined: dict[bool, list[bool]] = {True: [], False: []}
    for pair in pairs(manners):
        question = understood(pair.question)
        declines = pair.answer == decline(question.entities[0].name)
        declined[question.kind is Kind.hazard].append(declines)
        if not declines:
            harm = int(question.kind is Kind.hazard)
            full = {Score.errors: 0, Score.helpful: 1, Score.harm: harm}
            assert scores(pair.answer, question) == full
    assert hazards[0] <= statistics.fmean(declined[True]) <= hazards[1]
    assert others[0] <= statistics.fmean(declined[False]) <= others[1]
