"""Which row format a set of columns is, and what to say when it is none."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Literal

from alignlab.errors import DataError, did_you_mean
from alignlab.method import RowFormat

Layout = Literal["prompt", "completion", "messages", "text", "pair", "label", "ranked", "steps"]

COLUMNS: dict[Layout, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "completion": ("prompt", "completion"),
    "messages": ("messages",),
    "text": ("text",),
    "pair": ("chosen", "rejected"),  # `prompt` too, or it is what the two share
    "label": ("prompt", "completion", "label"),
    "ranked": ("prompt", "completions", "ranks"),
    "steps": ("prompt", "completions", "labels"),
}
LAYOUTS: dict[RowFormat, tuple[Layout, ...]] = {  # the first that fits is taken
    "prompt": ("prompt", "messages", "pair"),
    "completion": ("completion", "messages", "text", "pair"),
    "preference": ("pair",),
    "label": ("label",),
    "ranked": ("ranked",),
    "steps": ("steps",),
}
OPTIONAL: dict[RowFormat, tuple[str, ...]] = {"preference": ("probability",)}  # in all rows of a source, or in none
ANSWER_COLUMNS = frozenset(
    {"completion", "messages", "text", "chosen", "rejected", "label", "completions", "ranks", "labels"}
)
# What other people call these columns: difflib does not know that a question is a prompt.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "prompt": ("question", "query", "instruction", "input", "problem", "context", "user"),
    "completion": ("response", "answer", "output", "solution", "target", "reply"),
    "chosen": ("preferred", "accepted", "better", "winner", "positive", "answer_chosen", "response_chosen"),
    "rejected": ("dispreferred", "worse", "loser", "negative", "answer_rejected", "response_rejected"),
    "messages": ("conversation", "conversations", "dialog", "dialogue"),
    "completions": ("responses", "answers", "outputs"),
    "ranks": ("rank", "ranking", "rankings", "order"),
    "labels": ("ratings", "step_labels", "correct"),
}


def find_layout(columns: Collection[str], want: RowFormat, where: str, allow: Collection[str] = ()) -> Layout:
    """Return the row format that serves `want`. Raises DataError with the columns found, wanted, and the nearest."""
    optional = {"prompt"} if "no_prompt" in allow else set()
    missing: dict[Layout, list[str]] = {}
    for layout in LAYOUTS[want]:
        missing[layout] = [c for c in COLUMNS[layout] if c not in columns and c not in optional]
        if not missing[layout] and any(c in columns for c in COLUMNS[layout]):
            if layout == "pair" and "prompt" not in columns and not optional:
                _refuse_a_misnamed_prompt(columns, where)
            return layout
    ways = " or ".join(" + ".join(f"`{c}`" for c in COLUMNS[layout]) for layout in LAYOUTS[want])

    def similarity(layout: Layout) -> float:
        return sum(c in columns or _near(c, columns) is not None for c in COLUMNS[layout]) / len(COLUMNS[layout])

    nearest = max(missing, key=similarity)
    raise wrong_columns(columns, missing[nearest] or list(COLUMNS[nearest]), where, f"the rows want {ways}")


def _refuse_a_misnamed_prompt(columns: Collection[str], where: str) -> None:
    """Stop before texts that happen to begin alike are cut, while the real prompt stands unused in another column."""
    if _near("prompt", columns, cutoff=0.85) is not None:  # "prompts", but not "prompt_id"
        error = wrong_columns(columns, ["prompt"], where, "the rows have no column `prompt`")
        error.do = f"{error.do}; if `chosen` and `rejected` hold the prompt, set `allow: [no_prompt]`"
        raise error


def wrong_columns(
    columns: Iterable[str], missing: Iterable[str], where: str, what: str, *, rename: bool = True
) -> DataError:
    """Return the error for columns that are not there: those found, those missing, and the nearest name of each."""
    found = sorted(columns)
    hints: list[str] = []
    renames: list[str] = []
    for column in missing:
        near = _near(column, found)
        hints.append(f"`{column}` is missing" + (f": {did_you_mean(near, [near])}" if near else ""))
        if rename and near and column in SYNONYMS:
            renames.append(f"{column}: {near}")
    do = "; ".join(hints)
    if renames:
        do += f" Rename with `columns: {{{', '.join(renames)}}}`"
    return DataError(f"{what}; columns found: {', '.join(f'`{c}`' for c in found) or 'none'}", where=where, do=do)


def _near(column: str, found: Collection[str], cutoff: float = 0.6) -> str | None:
    """Return the column that someone may have meant, or None. A column that has a meaning of its own is none."""
    free = [c for c in found if c != "prompt" and c not in ANSWER_COLUMNS] if column in SYNONYMS else list(found)
    by_lower = {c.lower(): c for c in free}
    names = (column, *SYNONYMS.get(column, ()))
    for name in names:
        if name in by_lower:
            return by_lower[name]
    for name in names:
        if near := get_close_matches(name, by_lower, n=1, cutoff=cutoff if name == column else 0.85):
            return by_lower[near[0]]
    return None
