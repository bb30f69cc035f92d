"""Data sources for three well-known forms of files: `hh`, `alpaca` and `sharegpt`."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alignlab.data.columns import wrong_columns
from alignlab.data.rows import FileSettings, read
from alignlab.data.sources import Changed, RowProblem, SourceRow
from alignlab.data.turns import Turns, type_name
from alignlab.errors import did_you_mean

Row = Mapping[str, Any]
HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
HH_ROLES = {"Human": "user", "Assistant": "assistant"}
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
    "tool": "tool",
}


@dataclass(frozen=True)
class Adapter:
    """A source that turns each row of a known form into a row format of DESIGN.md 6."""

    name: str
    wanted: tuple[str, ...]
    convert: Callable[[Row], SourceRow]
    settings: type[FileSettings] = FileSettings

    def load(self, settings: FileSettings) -> Iterator[tuple[str, SourceRow]]:
        """Yield where each row stands, and the row. Raises DataError if the first row has other columns."""
        first = True
        for where, row in read(settings):
            if isinstance(row, RowProblem):
                yield where, row
                continue
            missing = [column for column in self.wanted if column not in row]
            if missing and first:
                what = f"source {self.name!r} wants the columns {', '.join(f'`{c}`' for c in self.wanted)}"
                raise wrong_columns(row, missing, settings.path, what, rename=False)
            first = False
            try:
                if missing:
                    raise RowProblem(f"no field `{missing[0]}`")
                yield where, self.convert(row)
            except RowProblem as problem:
                yield where, problem


def convert_hh(row: Row) -> SourceRow:
    r"""Turn two dialogues "\n\nHuman: ...\n\nAssistant: ..." (Bai et al., 2022) into conversations.

    The turns that they share are the prompt, as in every row without one. Some dialogues name one speaker twice in a
    row: that is one turn of several paragraphs, which chat templates want too.
    """
    chosen, rejected = (parse_dialogue(_text(row, field), field) for field in ("chosen", "rejected"))
    converted = {**row, "chosen": chosen[0], "rejected": rejected[0]}
    return Changed(converted, "turns of one speaker in a row, joined") if chosen[1] or rejected[1] else converted


def parse_dialogue(text: str, field: str = "text") -> tuple[Turns, bool]:
    """Return a dialogue's turns, stripped of white space, and whether turns in a row by one speaker were joined."""
    before, *parts = HH_TURN.split(text)
    if before.strip() or not parts:
        raise RowProblem(f"`{field}` does not begin with 'Human:' or 'Assistant:' on a line of its own")
    turns: Turns = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        role, said = HH_ROLES[speaker], said.strip()
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{said}"
        else:
            turns.append({"role": role, "content": said})
    return turns, len(turns) < len(parts) // 2


def convert_alpaca(row: Row) -> SourceRow:
    """Turn instruction, input and output (Taori et al., 2023) into a prompt and its completion, as a conversation."""
    instruction, output = _text(row, "instruction"), _text(row, "output")
    given = _text(row, "input") if row.get("input") is not None else ""
    asked = f"{instruction}\n\n{given}" if given.strip() else instruction
    if not asked.strip():
        raise RowProblem("`instruction` is empty")
    others = {column: value for column, value in row.items() if column not in ("instruction", "input", "output")}
    completion = [{"role": "assistant", "content": output}]
    return {**others, "prompt": [{"role": "user", "content": asked}], "completion": completion}


def convert_sharegpt(row: Row) -> SourceRow:
    """Turn a list of {from, value} into messages; a column `system` becomes the first of them."""
    found = row["conversations"]
    if not isinstance(found, list):
        raise RowProblem(f"`conversations` is {type_name(found)}" + ("" if found is None else ", wanted a list"))
    turns: Turns = []
    if row.get("system"):
        turns.append({"role": "system", "content": _text(row, "system")})
    for number, turn in enumerate(found, 1):
        at = f"`conversations`, turn {number}"
        if not isinstance(turn, dict) or not {"from", "value"} <= turn.keys():
            raise RowProblem(f"{at} has no `from` and `value`")
        speaker = turn["from"]
        if speaker not in SHAREGPT_ROLES:
            raise RowProblem(f"{at} is from {speaker!r}; {did_you_mean(str(speaker), SHAREGPT_ROLES)}")
        turns.append({"role": SHAREGPT_ROLES[speaker], "content": turn["value"]})
    others = {column: value for column, value in row.items() if column not in ("conversations", "system")}
    return {**others, "messages": turns}


def _text(row: Row, field: str) -> str:
    value = row[field]
    if not isinstance(value, str):
        raise RowProblem(f"`{field}` is {type_name(value)}" + ("" if value is None else ", wanted text"))
    return value


ADAPTERS = (
    Adapter("hh", ("chosen", "rejected"), convert_hh),
    Adapter("alpaca", ("instruction", "output"), convert_alpaca),
    Adapter("sharegpt", ("conversations",), convert_sharegpt),
)
