"""How a question is put into words for a language model: a template, and the words that may answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab.data.template import Template, check_template, read_text
from alignlab.data.turns import Turns
from alignlab.rewards.judges.base import Question

HERE = Path(__file__).parent
COMPARE, RATE = HERE / "compare.txt", HERE / "rate.txt"
COMPARE_REASONS, RATE_REASONS = HERE / "compare_reasons.txt", HERE / "rate_reasons.txt"
PLACES = ("conversation", "prompt", "first", "second", "question")
LETTERS: Mapping[str, float] = {"A": 1.0, "B": 0.0}  # what an answer says of P(first is better)
DIGITS: Mapping[str, float] = {str(digit): (digit - 1) / 8 for digit in range(1, 10)}
RATE_QUESTION = "How good is this answer?"


@dataclass(frozen=True)
class Wording:
    """The two templates of a judge that reads text."""

    compare: Template
    rate: Template

    @property
    def identity(self) -> list[str]:
        """What a verdict depends on."""
        return [self.compare.text, self.rate.text]

    def words(self, question: Question) -> Mapping[str, float]:
        """Return the answers that can be given, each with what it is worth."""
        return DIGITS if question.second is None else LETTERS

    def text(self, question: Question) -> str:
        """Return what is asked."""
        template = self.rate if question.second is None else self.compare
        asked = question.principle.question
        if question.second is None and question.principle.name == "":
            asked = RATE_QUESTION
        return template.fill(
            {
                "conversation": as_text(question.prompt),
                "prompt": last_turn(question.prompt),
                "first": question.first,
                "second": question.second or "",
                "question": asked,
            }
        )


def load_wording(compare: str | None, rate: str | None, *, reasons: bool = False) -> Wording:
    """Read a user's templates, or those that ship; with `reasons`, those that ask for reasons and for no word yet.

    Raises RecipeError for a place that there is not.
    """
    to_compare, to_rate = (COMPARE_REASONS, RATE_REASONS) if reasons else (COMPARE, RATE)
    return Wording(_read(compare, to_compare, ("first", "second")), _read(rate, to_rate, ("first",)))


def _read(name: str | None, default: Path, wanted: Sequence[str]) -> Template:
    where = name or str(default)
    return check_template(read_text(where).rstrip("\n"), where, PLACES, wanted)


def as_text(prompt: str | Turns) -> str:
    """Return a conversation as text, a paragraph a turn."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{str(turn['role']).capitalize()}: {turn['content']}" for turn in prompt)


def last_turn(prompt: str | Turns) -> str:
    """Return what was said last."""
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
