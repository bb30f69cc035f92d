from random import Random
from statistics import mean

import pytest

from alignlab.data.world import World, WorldSettings, true_reward
from alignlab.data.world.answers import demonstrate
from alignlab.data.world.principles import ATTRIBUTES, PRINCIPLES
from alignlab.data.world.questions import draw_prompts, parse_question
from alignlab.data.world.revising import find_fault, mend
from alignlab.rewards.judges import load_constitution


def rows(kind, num=300, **settings):
    return [row for _, row in World().load(WorldSettings(kind=kind, num_rows=num, **settings))]


def careless(num=600):
    rng = Random(0)
    for turns in draw_prompts(0, num):
        prompt = turns[-1]["content"]
        yield prompt, demonstrate(parse_question(prompt), rng), rng


def test_a_judgement_shows_two_answers_and_a_labeller_says_a_letter():
    for row in rows("judgements", questions=["better", "polite"]):
        (asked,) = row["prompt"]
        question, first, second, last = asked["content"].split("\n")
        assert first.startswith("A: ") and second.startswith("B: ") and first[3:] != second[3:]
        assert last in (PRINCIPLES["better"].question, PRINCIPLES["polite"].question)
        assert row["completion"][0]["content"] in ("A", "B")
        assert parse_question(question)


@pytest.mark.parametrize("name", PRINCIPLES)
def test_labellers_mostly_choose_the_answer_that_is_worth_more_under_what_was_asked(name):
    right = []
    for row in rows("judgements", 800, questions=[name], label_temperature=0.1):
        prompt, first, second, _ = row["prompt"][0]["content"].split("\n")
        gap = PRINCIPLES[name].merit(prompt, first[3:], 0.3) - PRINCIPLES[name].merit(prompt, second[3:], 0.3)
        if abs(gap) > 0.4:
            right.append((gap > 0) == (row["completion"][0]["content"] == "A"))
    assert len(right) > 100 and mean(right) > 0.95


def test_a_preference_under_a_principle_has_its_question_after_the_prompt():
    gaps = []
    for row in rows("preferences", 400, questions=["polite"], label_temperature=0.1):
        asked, question = row["prompt"][-1]["content"].split("\n")
        assert question == PRINCIPLES["polite"].question
        chosen, rejected = (row[name][0]["content"] for name in ("chosen", "rejected"))
        gaps.append(PRINCIPLES["polite"].merit(asked, chosen, 0) - PRINCIPLES["polite"].merit(asked, rejected, 0))
    assert min(gaps) >= 0 or mean(gap < 0 for gap in gaps) < 0.02
    assert mean(gaps) > 0.2


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_revision_mends_the_fault_and_is_truly_worth_more(name):
    gains = []
    for prompt, answer, rng in careless():
        question = parse_question(prompt)
        if find_fault(name, question, answer):
            mended = mend(name, question, answer, rng)
            assert find_fault(name, question, mended) is None, (prompt, answer, mended)
            if len(mended.split()) > 2:  # below three words an answer is too brief
                assert PRINCIPLES[name].merit(prompt, mended, 0) >= PRINCIPLES[name].merit(prompt, answer, 0)
            gains.append(true_reward(prompt, mended) - true_reward(prompt, answer))
    assert len(gains) > 50 and mean(gains) > 0


def test_critiques_and_revisions_are_the_turns_after_an_answer():
    for critique, revision in zip(rows("critiques", 50), rows("revisions", 50), strict=True):
        assert critique["prompt"][-1]["content"] in {PRINCIPLES[name].critique for name in ATTRIBUTES}
        assert revision["prompt"][-1]["content"] in {PRINCIPLES[name].revision for name in ATTRIBUTES}
        for row in (critique, revision):
            roles = [turn["role"] for turn in row["prompt"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
            assert row["completion"][0]["role"] == "assistant"


def test_the_worlds_constitution_is_one_that_alignlab_reads():
    found = load_constitution("alignlab.data.world:constitution.yaml").principles
    assert {p.name for p in found} == set(ATTRIBUTES)
    assert all((p.question, p.critique, p.revision) == (q.question, q.critique, q.revision)
               for p in found for q in [PRINCIPLES[p.name]])  # fmt: skip
