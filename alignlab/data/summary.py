"""What was found in the rows: counted, said once, and where it stops the run, as one error."""

from collections.abc import Sequence
from dataclasses import dataclass

NUM_LISTED = 5


@dataclass(frozen=True)
class Note:
    """Something that was done to rows, or to all of them."""

    what: str
    where: tuple[str, ...] = ()  # none: it is about all rows


@dataclass(frozen=True)
class SourceSummary:
    """What became of one source's rows."""

    label: str
    num_read: int
    num_kept: int
    num_train: int
    num_eval: int
    notes: tuple[Note, ...] = ()
    lengths: tuple[int, int, int] = (0, 0, 0)  # tokens of a kept row: fewest, mean, most
    repeated: float = 1.0  # how often a train row comes in an epoch of the mixture

    def lines(self) -> list[str]:
        """Return a line on the whole, and one for each note."""
        few, mean, most = self.lengths
        held = f", {self.num_eval:,} held out" if self.num_eval else ""
        again = f", each {self.repeated:.3g} times an epoch" if self.repeated != 1 else ""
        head = f"{self.label}: {self.num_read:,} rows read, {self.num_kept:,} kept: {self.num_train:,} to train on"
        lines = [f"{head}{again}{held}; {few:,} to {most:,} tokens, mean {mean:,}"]
        for note in self.notes:
            if note.where:
                num = len(note.where)
                lines.append(f"  {num:,} {'row' if num == 1 else 'rows'}: {note.what} ({places(note.where)})")
            else:
                lines.append(f"  {note.what}")
        return lines


@dataclass(frozen=True)
class RowSummary:
    """What became of the rows of all sources; `str` gives the lines to print."""

    sources: tuple[SourceSummary, ...]
    default_template: bool = False
    """Conversations were rendered by alignlab's template, which the tokenizer does not have."""

    def __str__(self) -> str:
        """Return the lines to print."""
        return "\n".join(line for source in self.sources for line in source.lines())


def places(where: Sequence[str]) -> str:
    """Return the first few places: "rows 3, 17, 20, 25, 31 and 7 more"; files are named only if there are several."""
    shown = where[:NUM_LISTED]
    files = {place.rpartition(", row ")[0] for place in where}
    if len(files) == 1 and all(", row " in place for place in shown):
        shown = [place.rpartition(", row ")[2] for place in shown]
        text = ("row " if len(where) == 1 else "rows ") + ", ".join(shown)
    else:
        text = "; ".join(shown)
    more = len(where) - len(shown)
    return f"{text} and {more:,} more" if more else text
