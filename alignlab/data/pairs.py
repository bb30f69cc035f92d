"""Two answers to one prompt: find the prompt where it stands in the answers."""

from typing import cast

from alignlab.data.sources import RowProblem
from alignlab.data.turns import Turns, check_not_empty, said

FROM_TURNS = "prompt taken from the turns that `chosen` and `rejected` share, not from the text in `prompt`"
MANY_TURNS = "the dialogues part before their last turn: answers of several turns"


def split_pair(
    prompt: str | Turns | None, answers: dict[str, str | Turns]
) -> tuple[str | Turns | None, dict[str, str | Turns], tuple[str, ...]]:
    """Return prompt, answers and notes; where answers are whole dialogues or there is no prompt, it is what they share.

    Raises RowProblem if the two are of different kinds, or cannot be told apart.
    """
    chosen, rejected = answers["chosen"], answers["rejected"]
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise RowProblem("of `chosen` and `rejected` one is text and one a conversation")
    whole = all(isinstance(a, list) and a and a[0]["role"] != "assistant" for a in answers.values())
    if prompt is not None and not whole:
        return prompt, answers, ()
    if isinstance(chosen, str):
        check_not_empty(answers)
        check_different(answers)
        num = shared_text(chosen, cast(str, rejected))
    else:
        num = shared_turns(chosen, cast(Turns, rejected))
    shared = chosen[:num]
    if isinstance(prompt, list) and shared != prompt:
        raise RowProblem("`chosen` and `rejected` are whole dialogues that do not begin with `prompt`")
    answers = {name: answer[num:] for name, answer in answers.items()}
    notes: tuple[str, ...] = (FROM_TURNS,) if isinstance(prompt, str) else ()
    if num and any(len(said(answer)) > 1 for answer in answers.values()):
        notes += (MANY_TURNS,)
    return shared, answers, notes


def check_different(answers: dict[str, str | Turns]) -> None:
    """Raise RowProblem if the two answers are the same."""
    if answers["chosen"] == answers["rejected"]:
        raise RowProblem("`chosen` equals `rejected`", "useless")


def shared_turns(first: Turns, second: Turns) -> int:
    """Return how many turns two dialogues share as a prompt: what follows begins with the assistant in both."""
    num = 0
    while num < min(len(first), len(second)) - 1 and first[num] == second[num]:
        num += 1

    def ends_a_prompt(num: int) -> bool:
        roles = [first[num]["role"], second[num]["role"], first[num - 1]["role"]]
        return roles[:2] == ["assistant"] * 2 and roles[2] != "assistant"

    while num > 0 and not ends_a_prompt(num):
        num -= 1
    return num


def shared_text(first: str, second: str) -> int:
    """Return how many characters two texts share as a prompt; both keep a word.

    The cut is before white space, because tokenizers put a space into the token of the word after it.
    """
    num, end = 0, min(len(first.rstrip()), len(second.rstrip()))
    while num < end and first[num] == second[num]:
        num += 1
    while num > 0 and not (first[num : num + 1].isspace() and second[num : num + 1].isspace()):
        num -= 1  # back over a word that both have begun
    while num > 0 and first[num - 1].isspace():
        num -= 1
    return num
