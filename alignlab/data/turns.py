"""Text and conversations: what a field of a row may hold."""

from collections.abc import Mapping
from typing import Any

from alignlab.data.sources import RowProblem
from alignlab.errors import did_you_mean

Message = dict[str, Any]  # role and content, and what else a chat template may look at
Turns = list[Message]
ROLES = ("system", "developer", "user", "assistant", "tool")
ROLE_SYNONYMS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "function": "tool"}


def type_name(value: Any) -> str:
    """Return what a value is in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    known = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return known.get(type(value), f"of type {type(value).__name__}")


def text_or_turns(value: Any, field: str) -> str | Turns:
    """Return a field's value as text or as turns. Raises RowProblem for a null, a wrong type or an unknown role."""
    if isinstance(value, str):
        return value
    if value is None:
        raise RowProblem(f"`{field}` is null")
    if not isinstance(value, list):
        raise RowProblem(f"`{field}` is {type_name(value)}, wanted text or a conversation")
    return [_turn(turn, f"`{field}`, turn {number}") for number, turn in enumerate(value, 1)]


def _turn(turn: Any, at: str) -> Message:
    if not isinstance(turn, dict):
        raise RowProblem(f"{at} is {type_name(turn)}, wanted {{role, content}}")
    if missing := {"role", "content"} - turn.keys():
        keys = ", ".join(f"`{key}`" for key in sorted(missing))
        hint = " (`source: sharegpt` reads those)" if {"from", "value"} <= turn.keys() else ""
        raise RowProblem(f"{at} has no {keys}; found: {', '.join(map(str, turn)) or 'nothing'}{hint}")
    role, content = turn["role"], turn["content"]
    if role not in ROLES:
        near = f"did you mean {ROLE_SYNONYMS[role]!r}?" if role in ROLE_SYNONYMS else did_you_mean(str(role), ROLES)
        raise RowProblem(f"{at} has the role {role!r}; {near}")
    if not isinstance(content, str):
        raise RowProblem(f"{at}: `content` is {type_name(content)}" + ("" if content is None else ", wanted text"))
    return {key: part for key, part in turn.items() if part is not None}  # a table gives every turn every key


def said(answer: str | Turns) -> list[str]:
    """Return what the assistant says in an answer, a text a turn."""
    return [answer] if isinstance(answer, str) else [t["content"] for t in answer if t["role"] == "assistant"]


def check_not_empty(answers: Mapping[str, str | Turns]) -> None:
    """Raise RowProblem if there is nothing in an answer, or in a turn of it."""
    for name, answer in answers.items():
        texts = said(answer)
        if name == "messages" and not texts:
            raise RowProblem("`messages` has no turn of the assistant, so there is nothing to learn", "useless")
        if not texts or not all(text.strip() for text in texts):
            raise RowProblem(f"`{name}` has an empty turn" if len(texts) > 1 else f"`{name}` is empty", "useless")


def as_turns(name: str, answer: str | Turns, prompt: str | Turns | None) -> str | Turns:
    """Make a text answer to a conversation the assistant's turn, and check a conversation's two ends."""
    if isinstance(answer, str):
        return [{"role": "assistant", "content": answer}] if isinstance(prompt, list) and prompt else answer
    if isinstance(prompt, str) and prompt:
        raise RowProblem(f"`{name}` is a conversation and `prompt` is text: make them of one kind")
    for place, turn in (("begins", answer[:1]), ("ends", answer[-1:])):
        if turn and turn[0]["role"] != "assistant":
            raise RowProblem(f"`{name}` {place} with a turn of {turn[0]['role']!r}, wanted 'assistant'")
    return answer
