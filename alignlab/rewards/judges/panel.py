"""A panel: one judge or several, in both orders, under principles; and what is to be known of its verdicts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from alignlab.data.turns import Turns
from alignlab.errors import RewardError
from alignlab.rewards.judges.asking import Asked
from alignlab.rewards.judges.base import Question, Verdict
from alignlab.rewards.judges.constitution import GENERAL, Principle

PART = 1024  # pairs whose verdicts are in memory at once


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    prompt: str | Turns
    first: str
    second: str
    where: str = "?"


@dataclass(frozen=True)
class Judgement:
    """What a panel makes of a pair."""

    pair: Pair
    probability: float | None  # that the first is better; None if no verdict could be read
    orders: tuple[float | None, float | None]  # P(first is better) as asked first-second, and as asked second-first
    by_principle: Mapping[str, float]  # P(first is better) under each principle that was asked

    @property
    def agrees(self) -> bool:
        """Whether both orders say the same; a tie (0.5) agrees with nothing but a tie."""
        one, two = self.orders
        return one is None or two is None or (one > 0.5) - (one < 0.5) == (two > 0.5) - (two < 0.5)


@dataclass
class Tally:
    """Counts over all verdicts and judgements of a panel."""

    verdicts: int = 0
    unread: int = 0
    pairs: int = 0
    disagree: int = 0
    ties: int = 0
    said_first: float = 0.0  # how often the answer that stood first was called better; a tie is half
    facts: dict[str, float] = field(default_factory=dict)

    def add(self, verdict: Verdict, *, pair: bool = True) -> None:
        """Count a verdict."""
        self.verdicts += 1
        for name, value in verdict.facts.items():
            self.facts[name] = self.facts.get(name, 0.0) + value
        if verdict.probability is None:
            self.unread += 1
        elif pair:
            self.said_first += (verdict.probability > 0.5) + 0.5 * (verdict.probability == 0.5)

    @property
    def position_bias(self) -> float | None:
        """From -1 (the second is always called better) over 0 to 1 (the first always is); both orders asked."""
        read = self.verdicts - self.unread
        return 2 * self.said_first / read - 1 if read else None

    def numbers(self) -> dict[str, float]:
        """Return what is worth logging."""
        found: dict[str, float] = {"pairs": self.pairs, "verdicts": self.verdicts, "unread": self.unread}
        found |= {"orders_disagree": self.disagree, "ties": self.ties, **self.facts}
        if self.position_bias is not None:
            found["position_bias"] = self.position_bias
        return found

    def warnings(self) -> Iterator[str]:
        """Yield what a user should know."""
        read = self.verdicts - self.unread
        if self.unread:
            yield f"{self.unread:,} of {self.verdicts:,} replies could not be read ({self.unread / self.verdicts:.1%})"
        if self.position_bias is not None and read >= 20 and abs(self.position_bias) > 0.9:
            which = "first" if self.position_bias > 0 else "second"
            yield (
                f"the judge calls whichever answer stands {which} the better one (position bias "
                f"{self.position_bias:+.2f}): its labels say nothing; take another judge or template"
            )


@dataclass(frozen=True)
class _Said:
    """One verdict, and what it was said to."""

    judge: Asked
    question: Question  # as asked first-second
    swapped: bool  # it was asked second-first
    verdict: Verdict


@dataclass
class Panel:
    """Judges that are asked together: `judges` and principles are averaged by weight."""

    judges: Sequence[Asked]
    principles: Sequence[Principle] = (GENERAL,)
    num_principles: int | None = None  # drawn for each pair, by weight; None: all of them, weighted
    both_orders: bool = True
    seed: int = 0
    kept: Path | None = None  # judgements.jsonl
    tally: Tally = field(default_factory=Tally)

    def compare(self, pairs: Sequence[Pair]) -> Iterator[Judgement]:
        """Yield a judgement for each pair, in order; every verdict is appended to judgements.jsonl."""
        if self.kept is not None:
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            self.kept.write_text("")  # a run that was killed finds its verdicts in the store, and writes them again
        for start in range(0, len(pairs), PART):
            yield from self._compare(pairs[start : start + PART])

    def _compare(self, pairs: Sequence[Pair]) -> Iterator[Judgement]:
        asked = [
            [Question(pair.prompt, pair.first, pair.second, principle) for principle in self._principles(pair)]
            for pair in pairs
        ]
        orders = 2 if self.both_orders else 1
        everything = [q for questions in asked for question in questions for q in (question, question.swapped)[:orders]]
        said = [iter(judge(everything)) for judge in self.judges]
        judged: list[tuple[Pair, list[_Said]]] = []
        for pair, questions in zip(pairs, asked, strict=True):
            verdicts = [
                _Said(judge, question, swapped, next(replies))
                for judge, replies in zip(self.judges, said, strict=True)
                for question in questions
                for swapped in (False, True)[:orders]
            ]
            judged.append((pair, verdicts))
        self._write(judged)
        for pair, verdicts in judged:
            yield self._judgement(pair, verdicts)

    def _principles(self, pair: Pair) -> Sequence[Principle]:
        """Return the principles for a pair: all, or some drawn by weight, the same whenever it is asked again."""
        if self.num_principles is None or self.num_principles >= len(self.principles):
            return self.principles
        rng = Random(f"{self.seed} {pair.prompt} {pair.first} {pair.second}")
        left = list(self.principles)
        drawn: list[Principle] = []
        for _ in range(self.num_principles):
            drawn.append(left.pop(rng.choices(range(len(left)), [p.weight for p in left])[0]))
        return drawn

    def _judgement(self, pair: Pair, verdicts: Sequence["_Said"]) -> Judgement:
        """Average the verdicts on one pair; those that could not be read have no part in it."""
        orders: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])  # (weight, P(first is better))
        by_principle: dict[str, list[tuple[float, float]]] = {}
        for said in verdicts:
            self.tally.add(said.verdict)
            if said.verdict.probability is not None:
                better = 1 - said.verdict.probability if said.swapped else said.verdict.probability
                drawn = self.num_principles is not None  # then a principle's weight is how often it is drawn
                weight = said.judge.weight * (1 if drawn else said.question.principle.weight)
                orders[said.swapped].append((weight, better))
                by_principle.setdefault(said.question.principle.name, []).append((said.judge.weight, better))
        first, second = (_mean(found) for found in orders)
        read = [one for one in (first, second) if one is not None]
        judgement = Judgement(
            pair,
            sum(read) / len(read) if read else None,
            (first, second),
            {name: mean for name, found in by_principle.items() if (mean := _mean(found)) is not None},
        )
        self.tally.pairs += 1
        self.tally.disagree += not judgement.agrees
        self.tally.ties += judgement.probability == 0.5
        return judgement

    def rate(self, prompts: Sequence[str | Turns], answers: Sequence[str]) -> list[float | None]:
        """Return how good each answer is, from 0 to 1: the mean over judges and all principles; None: not readable."""
        questions = [
            Question(prompt, answer, None, principle)
            for prompt, answer in zip(prompts, answers, strict=True)
            for principle in self.principles
        ]
        verdicts = [asked(questions) for asked in self.judges]
        found: list[float | None] = []
        for row in range(len(answers)):
            part: list[tuple[float, float]] = []
            for asked, said in zip(self.judges, verdicts, strict=True):
                for number, principle in enumerate(self.principles):
                    verdict = said[row * len(self.principles) + number]
                    self.tally.add(verdict, pair=False)
                    if verdict.probability is not None:
                        part.append((asked.weight * principle.weight, verdict.probability))
            found.append(_mean(part))
        return found

    def _write(self, judged: Sequence[tuple[Pair, Sequence["_Said"]]]) -> None:
        if self.kept is None:
            return
        with self.kept.open("a", encoding="utf-8", errors="backslashreplace") as file:
            for pair, said in ((pair, said) for pair, verdicts in judged for said in verdicts):
                row: dict[str, Any] = {
                    "where": pair.where,
                    "judge": said.judge.name,
                    "principle": said.question.principle.name,
                    "question": said.question.principle.question,
                    "order": "second-first" if said.swapped else "first-second",
                    "prompt": pair.prompt,
                    "first": pair.first,
                    "second": pair.second,
                    "probability": said.verdict.probability,  # that the one shown first is better
                    "reply": said.verdict.reply,
                    **said.verdict.facts,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close what the judges hold open."""
        for asked in self.judges:
            if callable(close := getattr(asked.judge, "close", None)):
                close()
            asked.store.close()

    def check_useful(self) -> None:
        """Raise RewardError if nothing that the judges said can be used."""
        if self.tally.verdicts and self.tally.unread == self.tally.verdicts:
            raise RewardError(
                f"none of the {self.tally.verdicts:,} replies of the judge could be read",
                where=str(self.kept) if self.kept else None,
                do="look at `reply` there; take another template, more `max_tokens`, or another model",
            )
        if self.tally.pairs and self.tally.ties == self.tally.pairs:
            raise RewardError(
                f"the judge finds all {self.tally.pairs:,} pairs tied, so there is nothing to learn",
                where=str(self.kept) if self.kept else None,
                do="take another judge or question",
            )


def _mean(found: Sequence[tuple[float, float]]) -> float | None:
    total = sum(weight for weight, _ in found)
    return sum(weight * value for weight, value in found) / total if found else None
