from random import Random

import pytest

from alignlab.data.world.grammar import TOPICS
from alignlab.data.world.questions import draw_prompts, draw_question, parse_question
from alignlab.errors import DataError


def test_a_question_is_found_again_in_its_text():
    rng = Random(0)
    for _ in range(2000):
        question, text = draw_question(rng)
        found = parse_question(f"Hello. {text}")
        assert found.topic is question.topic, text
        assert found.slots.items() <= question.slots.items(), text
        assert found.right == question.right, text


@pytest.mark.parametrize(
    ("prompt", "right"),
    [
        ("Where does Ben live?", ("Rome",)),
        ("Good day. What is three plus two?", ("five",)),
        ("The boat of Anna is red. What colour is the boat?", ("red",)),
        ("please say hello to clara.", ("Clara",)),
        ("Please name one tool.", ("hammer", "saw", "spoon", "brush")),
        ("Who will win the race next week?", ()),
        ("I have a boat. What colour is it?", ()),
    ],
)
def test_the_right_answer_follows_from_the_prompt(prompt: str, right: tuple[str, ...]):
    assert parse_question(prompt).right == right


def test_a_prompt_of_another_world_is_an_error_that_says_so():
    with pytest.raises(DataError, match=r"no question like 'What is love\?'"):
        parse_question("What is love?")


def test_prompts_are_distinct_even_at_the_largest_number_and_hang_on_the_seed_alone():
    prompts = draw_prompts(0, 4000)
    assert len({str(prompt) for prompt in prompts}) == 4000
    assert prompts[:100] == draw_prompts(0, 100)
    assert prompts[:100] != draw_prompts(1, 100)


def test_every_topic_is_asked_and_some_prompts_have_two_turns():
    prompts = draw_prompts(0, 2000)
    asked = {id(parse_question(prompt[-1]["content"]).topic) for prompt in prompts}
    assert asked == {id(topic) for topic in TOPICS.values()}
    assert {tuple(turn["role"] for turn in prompt) for prompt in prompts} == {
        ("user",),
        ("user", "assistant", "user"),
    }
    assert 0.1 < sum(len(prompt) == 3 for prompt in prompts) / 2000 < 0.3
    lengths = [len(prompt[-1]["content"].split()) for prompt in prompts]
    assert (min(lengths), max(lengths)) == (4, 16)
