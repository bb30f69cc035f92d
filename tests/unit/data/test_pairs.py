import pytest

from alignlab.data.pairs import shared_text, shared_turns


@pytest.mark.parametrize(
    ("first", "second", "prompt"),
    [
        ("What is it? Paris", "What is it? London", "What is it?"),
        ("What is it? Paris", "What is it? Pairs", "What is it?"),  # back over a word both have begun
        ("Q\n\nAssistant: Yes", "Q\n\nAssistant: No", "Q\n\nAssistant:"),
        ("A B C", "A B", "A"),  # one is the start of the other: both keep a word
        ("A  B", "A  C", "A"),  # before the whole run of white space
        ("Paris", "London", ""),
        ("Paris", "Pairs", ""),
        (" Paris", " London", ""),
    ],
)
def test_the_shared_text_ends_before_white_space_and_leaves_both_a_word(first, second, prompt):
    num = shared_text(first, second)
    assert (first[:num], second[:num]) == (prompt, prompt)


def turns(text):
    return [{"role": {"u": "user", "a": "assistant", "s": "system"}[word[0]], "content": word} for word in text.split()]


@pytest.mark.parametrize(
    ("first", "second", "num"),
    [
        ("u1 a1", "u1 a2", 1),
        ("s u1 a1 u2 a2", "s u1 a1 u2 a3", 4),
        ("u1 a1 u2 a2", "u1 a1 u3 a3", 1),  # they part at the user's turn: the shared answer is the answers' own
        ("u1 a1 u2 a2", "u1 a1", 1),
        ("u1 a1", "u2 a1", 0),
        ("a1", "a2", 0),
        ("u1 a1 a2", "u1 a1 a3", 1),  # a prompt never ends with the assistant
    ],
)
def test_the_shared_turns_are_followed_by_the_assistant_in_both(first, second, num):
    assert shared_turns(turns(first), turns(second)) == num
