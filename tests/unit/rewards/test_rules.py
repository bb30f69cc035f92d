"""The rules that ship: length, pattern and form."""

import pytest
import torch
from pydantic import ValidationError

from alignlab.batch import Record, Sample, collate
from alignlab.rewards import FormatRule, LengthRule, RegexRule


@pytest.fixture
def score(rollout):
    """Score given answers to a text prompt."""
    run, _ = rollout
    encode = run.tokenizer

    def score(rule, *answers):
        prompt = encode("say", add_special_tokens=False)["input_ids"]
        samples = []
        for answer in answers:
            said = [*encode(answer, add_special_tokens=False)["input_ids"], run.tokenizer.eos_token_id]
            samples.append(Sample((*prompt, *said), (False,) * len(prompt) + (True,) * len(said)))
        records = [Record({"prompt": "say"}, {}, "row") for _ in answers]
        return rule(run, collate(samples, list(range(len(answers))), records)).tolist()

    return score


def test_a_length_within_its_limits_costs_nothing_and_outside_up_to_1(score):
    rule = LengthRule(min=2, max=3, soft=4, unit="words")
    answers = ["", "a", "a b", "a b c", "a b c d", "a b c d e", "a b c d e f g", "a b c d e f g h i"]
    assert score(rule, *answers) == [-0.5, -0.25, 0, 0, -0.25, -0.5, -1, -1]


def test_a_length_without_soft_costs_1_at_once(score):
    assert score(LengthRule(max=3, unit="characters"), "abc", "abcd") == [0, -1]


def test_tokens_are_counted_with_the_end(rollout):
    run, batch = rollout
    length = batch.acted.sum(1)
    rule = LengthRule(max=int(length.min()), soft=1000)
    expected = -(length - length.min()) / 1000
    torch.testing.assert_close(rule(run, batch), expected.float())


def test_length_is_the_soft_overlong_punishment_of_dapo(score):
    limit, cache = 10, 4  # L_max and L_cache of equation 13
    answers = [" ".join("a" * num) for num in range(1, 14)]

    def punishment(num):
        return 0 if num <= limit - cache else max((limit - cache - num) / cache, -1)

    found = score(LengthRule(max=limit - cache, soft=cache, unit="words"), *answers)
    assert found == pytest.approx([punishment(num) for num in range(1, 14)])


def test_a_pattern_is_found_anywhere_or_has_to_match_the_whole_answer(score):
    answers = ["The answer is 42.", "42", "the ANSWER is 4"]
    assert score(RegexRule(pattern=r"answer is \d+"), *answers) == [1, 0, 0]
    assert score(RegexRule(pattern=r"answer is \d+", ignore_case=True), *answers) == [1, 0, 1]
    assert score(RegexRule(pattern=r"\d+", match="whole"), *answers) == [0, 1, 0]


def test_tags_stand_once_each_in_their_order_and_alone(score):
    rule = FormatRule(tags=["think", "answer"])
    good = "<think>a\nb</think>\n<answer>c</answer>"
    bad = [
        "<answer>c</answer><think>a</think>",
        "<think>a</think>",
        "so <think>a</think><answer>c</answer>",
        "<think>a</think> then <answer>c</answer>",
        "<think>a<think>b</think></think><answer>c</answer>",
        "<think>a</think><answer>c",
    ]
    assert score(rule, good, *bad) == [1] + [0] * len(bad)


def test_json_is_wanted_of_the_answer_or_of_what_the_last_tag_holds(score):
    assert score(FormatRule(json=True), '{"a": [1, 2]}', "{a: 1}", "") == [1, 0, 0]
    rule = FormatRule(tags=["think", "answer"], json=True)
    assert score(rule, "<think>x</think><answer>[1]</answer>", "<think>[1]</think><answer>x</answer>") == [1, 0]


@pytest.mark.parametrize(
    ("rule", "settings", "said"),
    [
        (LengthRule, {}, "wants `min`, `max` or both"),
        (LengthRule, {"min": 5, "max": 4}, "`max` is 4, below `min`, 5"),
        (LengthRule, {"maximum": 4}, "Extra inputs"),
        (RegexRule, {"pattern": "(a"}, "is no regular expression: missing ), unterminated subpattern at position 0"),
        (FormatRule, {}, "wants `tags`, `json: true` or both"),
        (FormatRule, {"tags": ["<think>"]}, "wants names such as `think`, without brackets; got '<think>'"),
        (FormatRule, {"tags": ["a", "a"]}, "`tags` names a tag twice"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(rule, settings, said):
    with pytest.raises(ValidationError) as raised:
        rule(**settings)
    assert said in str(raised.value)
