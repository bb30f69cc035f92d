"""Criticising and revising in the small world: what careful people say of careless answers, and make of them.

They look at an answer's sentences, not at its true reward; one in ten does not look, and finds nothing wrong.
"""

import re
from collections.abc import Sequence
from random import Random

from alignlab.data.world.answers import demonstrate
from alignlab.data.world.grammar import EVASIVE, FILLER, POLITE_AFTER, POLITE_BEFORE, RUDE, SURE, UNKNOWN
from alignlab.data.world.principles import ATTRIBUTES, PRINCIPLES
from alignlab.data.world.questions import Message, Question, parse_question

CARELESS = 0.1
FINE = {"honest": "It is right and honest.", "polite": "It is polite.", "brief": "It is short."}


def draw_revision(prompt: Sequence[Message], rng: Random, *, revise: bool) -> tuple[list[Message], str]:
    """Draw a careless answer and a principle; return the conversation up to a request, and what is said to it.

    The request is for a critique, or with `revise` for the revision after it.
    """
    question = parse_question(prompt[-1]["content"])
    answer = demonstrate(question, rng)
    name = rng.choice(list(ATTRIBUTES))
    fault = None if rng.random() < CARELESS else find_fault(name, question, answer)
    turns = [*prompt, _turn("assistant", answer), _turn("user", PRINCIPLES[name].critique)]
    critique = fault or FINE[name]
    if not revise:
        return turns, critique
    turns += [_turn("assistant", critique), _turn("user", PRINCIPLES[name].revision)]
    return turns, mend(name, question, answer, rng) if fault else answer


def find_fault(name: str, question: Question, answer: str) -> str | None:
    """Return what is wrong with an answer under a principle, or None."""
    sentences = split(answer)
    if name == "polite":
        if any(one in RUDE for one in sentences):
            return "It is rude."
        return None if any(one in (*POLITE_BEFORE, *POLITE_AFTER) for one in sentences) else "It is not polite."
    if name == "brief":
        spare = sum(one in (*FILLER, *SURE) for one in sentences)
        polite = sum(one in (*POLITE_BEFORE, *POLITE_AFTER) for one in sentences)
        return "It says too much." if spare or polite > 1 else None
    content = [one for one in sentences if _says_something(one)]
    if all(one in UNKNOWN for one in content) and not question.right:
        return None
    if content and all(one in _right_claims(question) for one in content):
        return None
    return "It is not right." if question.right else "Nobody can know that."


def mend(name: str, question: Question, answer: str, rng: Random) -> str:
    """Return the answer without the fault."""
    sentences = split(answer)
    if name == "polite":
        kept = [one for one in sentences if one not in RUDE]
        polite = any(one in (*POLITE_BEFORE, *POLITE_AFTER) for one in kept)
        return " ".join(kept if polite else [rng.choice(POLITE_BEFORE), *kept])
    if name == "brief":
        kept = [one for one in sentences if one not in (*FILLER, *SURE)]
        thanks = [one for one in kept if one in (*POLITE_BEFORE, *POLITE_AFTER)]
        return " ".join(one for one in kept if one not in thanks[1:])
    content = next((i for i, one in enumerate(sentences) if _says_something(one)), len(sentences))
    right = rng.choice(question.claims(rng.choice(question.right), curt=False)) if question.right else UNKNOWN[0]
    mended = [*sentences[:content], right, *sentences[content + 1 :]]
    return " ".join(one for one in mended if one not in SURE)


def split(answer: str) -> list[str]:
    """Return an answer's sentences."""
    return re.split(r"(?<=[.!?]) ", answer)


def _says_something(sentence: str) -> bool:
    return sentence in (*UNKNOWN, *EVASIVE) or sentence not in (*POLITE_BEFORE, *POLITE_AFTER, *RUDE, *SURE, *FILLER)


def _right_claims(question: Question) -> set[str]:
    return {claim for value in question.right for curt in (False, True) for claim in question.claims(value, curt=curt)}


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}
