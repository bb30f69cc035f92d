"""One row, checked and brought into one form: a prompt and named answers."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from alignlab.data.columns import Layout
from alignlab.data.lists import as_label, check_twins, labelled_steps, ranked_answers
from alignlab.data.pairs import check_different, split_pair
from alignlab.data.sources import RowProblem
from alignlab.data.turns import Turns, as_turns, check_not_empty, text_or_turns
from alignlab.method import RowFormat


@dataclass(frozen=True)
class Example:
    """A checked row. Prompt and answers are all text, or all conversations."""

    where: str
    columns: Mapping[str, Any]  # the row as it was read, with what was checked or found put in its place
    prompt: str | Turns | None
    answers: Mapping[str, str | Turns]  # by the names that samples have
    notes: tuple[str, ...] = ()  # what was not taken as it stood
    steps: tuple[str, ...] = ()  # the one answer, step by step, where each step is judged

    @property
    def prompt_key(self) -> str:
        """What rows are held out by: the prompt, or the answers of a row without one."""
        return prompt_key(self.prompt) if self.prompt else json.dumps(list(self.answers.values()), sort_keys=True)

    @property
    def texts(self) -> list[str]:
        """All text of the row: what a tokenizer is trained on."""
        found: list[str] = []
        for part in (self.prompt, *self.answers.values()):
            found += [part] if isinstance(part, str) else [str(turn["content"]) for turn in part or ()]
        return [*found, *self.steps]


def prompt_key(prompt: str | Turns) -> str:
    """Return text that is the same for the same prompt in every row format; one user's turn is that text alone."""
    if isinstance(prompt, list) and len(prompt) == 1 and prompt[0]["role"] == "user":
        prompt = str(prompt[0]["content"])
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


@contextmanager
def _about(prompt: str | Turns | None) -> Iterator[None]:
    """Let a problem with the answers to a prompt name it: rows that are dropped count when prompts are held out."""
    try:
        yield
    except RowProblem as problem:
        problem.prompt_key = prompt_key(prompt) if prompt else None
        raise


def make_example(
    where: str, row: Mapping[str, Any], layout: Layout, want: RowFormat, allow: Collection[str] = ()
) -> Example:
    """Check one row. Raises RowProblem with the first thing that is wrong with it."""
    notes: tuple[str, ...] = ()
    prompt: str | Turns | None
    if layout == "messages":
        prompt, answers = _from_messages(row)
    elif layout == "text":
        prompt, answers = None, {"completion": _text(row)}
    else:
        prompt = text_or_turns(row["prompt"], "prompt") if "prompt" in row else None
        with _about(prompt):
            answers = _answers(row, layout, prompt, want)
    if layout == "pair" and answers:
        prompt, answers, notes = split_pair(prompt, answers)
    _check_prompt(prompt, row, layout, allow)
    columns = {**row, "prompt": prompt} if prompt else dict(row)
    if want == "prompt":
        return Example(where, columns, prompt or None, {}, notes)
    with _about(prompt):
        if layout == "steps":
            steps, labels = labelled_steps(row["completions"], row["labels"])
            return Example(where, columns | {"labels": labels}, prompt or None, {}, notes, steps)
        if layout == "pair" and want == "completion":
            answers = {"chosen": answers["chosen"]}
        answers = {name: as_turns(name, answer, prompt) for name, answer in answers.items()}
        check_not_empty({"messages": answers["completion"]} if layout == "messages" else answers)
        if want == "preference":
            check_different(answers)
        elif layout == "ranked":
            check_twins(list(answers.values()), row["ranks"])
    columns |= {name: answer for name, answer in answers.items() if name in row}
    if want == "preference" and "probability" in row:
        columns["probability"] = _probability(row["probability"])
    if layout == "label":
        columns["label"] = as_label(row["label"])
    elif layout == "ranked":
        columns["completions"] = list(answers.values())
    elif layout == "pair" and want == "completion":
        answers = {"completion": answers["chosen"]}
    return Example(where, columns, prompt or None, answers, notes)


def _from_messages(row: Mapping[str, Any]) -> tuple[Turns, dict[str, str | Turns]]:
    """Take the turns before the assistant's first as prompt, and the rest, to the assistant's last, as its answer."""
    turns = text_or_turns(row["messages"], "messages")
    if isinstance(turns, str):
        raise RowProblem("`messages` is text, wanted a conversation: a list of {role, content}")
    assistant = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not assistant:
        return turns, {"completion": []}
    return turns[: assistant[0]], {"completion": turns[assistant[0] : assistant[-1] + 1]}


def _text(row: Mapping[str, Any]) -> str:
    text = text_or_turns(row["text"], "text")
    if not isinstance(text, str):
        raise RowProblem("`text` is a conversation, wanted text: a conversation's column is `messages`")
    if not text.strip():
        raise RowProblem("`text` is empty", "useless")
    return text


def _answers(
    row: Mapping[str, Any], layout: Layout, prompt: str | Turns | None, want: RowFormat
) -> dict[str, str | Turns]:
    """Return the answers by their columns' names, as they stand; none where only the prompt is wanted and known."""
    if layout == "ranked":
        return ranked_answers(row["completions"], row["ranks"])
    if layout == "pair" and (want != "prompt" or prompt is None):
        return {field: text_or_turns(row[field], field) for field in ("chosen", "rejected")}
    if layout in ("completion", "label"):
        return {"completion": text_or_turns(row["completion"], "completion")}
    return {}


def _check_prompt(prompt: str | Turns | None, row: Mapping[str, Any], layout: Layout, allow: Collection[str]) -> None:
    if isinstance(prompt, list) and prompt and prompt[-1]["role"] == "assistant":
        raise RowProblem("`prompt` ends with the assistant's turn, so there is nothing to answer")
    has_prompt = prompt if isinstance(prompt, list) else (prompt or "").strip()
    if has_prompt or layout == "text" or "no_prompt" in allow:
        return
    if layout == "messages":
        raise RowProblem("`messages` begins with the assistant's turn, so there is no prompt", "no_prompt")
    if layout == "pair" and "prompt" not in row:
        raise RowProblem("no `prompt`, and `chosen` and `rejected` share no beginning", "no_prompt")
    raise RowProblem("`prompt` is empty" if "prompt" in row else "no `prompt`", "no_prompt")


def _probability(value: Any) -> float:
    """Return P(chosen is the better answer), the soft label of a pair."""
    try:
        found = float("nan" if isinstance(value, bool) else value)  # a csv holds text only
    except (TypeError, ValueError):
        found = float("nan")
    if not 0 <= found <= 1:
        what = "null" if value is None else f"{value!r:.40}, wanted a number from 0 to 1"
        raise RowProblem(f"`probability` is {what}")
    return found
