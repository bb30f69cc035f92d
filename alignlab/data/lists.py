"""Columns that hold a list: K answers with their ranks, or an answer's steps with their labels."""

from math import isfinite
from typing import Any

from alignlab.data.sources import RowProblem
from alignlab.data.turns import Turns, text_or_turns, type_name

NONE = "`completions` is empty"


def ranked_answers(found: Any, ranks: Any) -> dict[str, str | Turns]:
    """Return K answers; `ranks` holds a number for each, 1 for the best."""
    _check_lists(completions=found, ranks=ranks)
    for number, rank in enumerate(ranks, 1):
        if isinstance(rank, bool) or not isinstance(rank, (int, float)):
            raise RowProblem(f"`ranks`, place {number}, is {type_name(rank)}, wanted a number")
        if not isfinite(rank):
            raise RowProblem(f"`ranks`, place {number}, is {rank}, wanted a finite number")
    if len(found) < 2:
        raise RowProblem("`completions` holds one answer; a ranking wants two or more" if found else NONE, "useless")
    if len(set(ranks)) < 2:
        raise RowProblem("`ranks` prefers no answer to another", "useless")
    return {f"completions.{i}": text_or_turns(answer, f"completions.{i}") for i, answer in enumerate(found)}


def check_twins(answers: list[str | Turns], ranks: list[float]) -> None:
    """Raise RowProblem for two answers that are the same and ranked apart: no score can tell them."""
    for second, answer in enumerate(answers):
        first = answers.index(answer)
        if ranks[first] != ranks[second]:
            raise RowProblem(f"`completions` {first + 1} and {second + 1} are the same, and ranked apart", "useless")


def labelled_steps(found: Any, labels: Any) -> tuple[tuple[str, ...], list[bool]]:
    """Return the steps of an answer, and whether each is right."""
    _check_lists(completions=found, labels=labels)
    if not found:
        raise RowProblem(NONE, "useless")
    for number, step in enumerate(found, 1):
        if not isinstance(step, str):
            raise RowProblem(f"`completions`, step {number}, is {type_name(step)}, wanted text")
        if not step.strip():
            raise RowProblem(f"`completions`, step {number}, is empty", "useless")
    return tuple(found), [as_label(label, f"`labels`, step {number},") for number, label in enumerate(labels, 1)]


def _check_lists(**fields: Any) -> None:
    """Raise RowProblem for columns that are not lists of one length."""
    for field, value in fields.items():
        if not isinstance(value, list):
            raise RowProblem(f"`{field}` is {type_name(value)}" + ("" if value is None else ", wanted a list"))
    (first, found), (second, others) = fields.items()
    if len(found) != len(others):
        raise RowProblem(f"there are {len(found)} `{first}` and {len(others)} `{second}`")


def as_label(value: Any, name: str = "`label`") -> bool:
    """Return true or false, also written as text or as a number. Raises RowProblem for anything else."""
    text = str(value).strip().lower()  # a csv holds text only
    if text not in ("true", "false", "1", "0"):
        raise RowProblem(f"{name} is null" if value is None else f"{name} is {value!r}, wanted true or false")
    return text in ("true", "1")
