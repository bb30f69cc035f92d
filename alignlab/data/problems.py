"""The rows that cannot be used: those that the recipe drops, and one error for all others."""

from collections.abc import Sequence
from dataclasses import dataclass

from alignlab.config.recipe import DataSettings
from alignlab.data.sources import RowProblem
from alignlab.data.summary import NUM_LISTED, Note, places
from alignlab.errors import DataError

REMEDIES = {
    "broken": "mend the rows (a row that cannot be read is never dropped)",
    "useless": "for rows that hold nothing to learn, set `bad_rows: drop`: they are left out and counted",
    "no_prompt": "give the rows a `prompt`, or set `allow: [no_prompt]`",
    "overlong": "raise `max_length` as far as the model's context allows, or set `overlong: drop` or `truncate_left`",
}


@dataclass(frozen=True)
class Limit:
    """The most tokens of a row, and the setting that says so."""

    tokens: int
    setting: str
    prompts: bool = False  # the rows are prompts, and one token is left for the answer

    def __str__(self) -> str:
        """Return the limit with its setting."""
        return f"{self.setting}, {self.tokens:,} tokens" + (" (one of them for an answer)" if self.prompts else "")


@dataclass(frozen=True)
class Problems:
    """The bad rows of one source, in the order of its rows."""

    found: Sequence[tuple[str, RowProblem]]
    limit: Limit

    def split(self, settings: DataSettings) -> tuple["Problems", "Problems"]:
        """Return those that the recipe drops, and those that stop the run."""
        drops = {"useless": settings.bad_rows == "drop", "overlong": settings.overlong == "drop"}
        kept_apart: tuple[list[tuple[str, RowProblem]], list[tuple[str, RowProblem]]] = ([], [])
        for where, problem in self.found:
            kept_apart[not drops.get(problem.kind, False)].append((where, problem))
        return Problems(kept_apart[0], self.limit), Problems(kept_apart[1], self.limit)

    def notes(self) -> list[Note]:
        """Return what the summary says of dropped rows, by reason."""
        by_reason: dict[str, list[str]] = {}
        for where, problem in self.found:
            if problem.kind != "overlong":
                by_reason.setdefault(f"dropped, {problem} (`bad_rows: drop`)", []).append(where)
        notes = [Note(what, tuple(where)) for what, where in by_reason.items()]
        if long := self._overlong():
            longest = max(num for _, num in long)
            what = f"dropped, over {self.limit}; the longest has {longest:,} (`overlong: drop`)"
            notes.append(Note(what, tuple(where for where, _ in long)))
        return notes

    def error(self, label: str, num_read: int) -> DataError | None:
        """Return one error for all of them: the first by row and reason, and how many there are."""
        if not self.found:
            return None
        lines: list[str] = []
        bad = [(where, problem) for where, problem in self.found if problem.kind != "overlong"]
        if bad:
            lines.append(f"{len(bad):,} of {num_read:,} rows cannot be used:")
            for where, problem in bad[:NUM_LISTED]:
                lines.append(f"  {places([where])}: {problem}")
            if len(bad) > NUM_LISTED:
                lines.append(f"  and {len(bad) - NUM_LISTED:,} more")
        if long := self._overlong():
            lines.append(self._overlong_line(long, num_read))
        kinds = dict.fromkeys(problem.kind for _, problem in self.found)
        return DataError("\n".join(lines), where=label, do="; ".join(REMEDIES[kind] for kind in kinds))

    def nothing_left(self, label: str, num_read: int) -> DataError:
        """Return the error for a source whose rows are all dropped."""
        reasons = [f"{len(note.where):,} {note.what}" for note in self.notes()]
        what = f"none of the {num_read:,} rows is left: " + "; ".join(reasons)
        kinds = dict.fromkeys(problem.kind for _, problem in self.found)
        return DataError(what, where=label, do="; ".join(REMEDIES[kind] for kind in kinds))

    def _overlong(self) -> list[tuple[str, int]]:
        return [(where, int(problem.reason)) for where, problem in self.found if problem.kind == "overlong"]

    def _overlong_line(self, long: list[tuple[str, int]], num_read: int) -> str:
        longest, num = max(long, key=lambda found: found[1])
        many = f"all {num_read:,} rows are" if len(long) == num_read else f"{len(long):,} of {num_read:,} rows are"
        listed = "" if len(long) == num_read else f" ({places([where for where, _ in long])})"
        return f"{many} over {self.limit}{listed}; the longest, {places([longest])}, has {num:,}"
