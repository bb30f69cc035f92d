"""Ask one judge many questions: what is known is not asked again, and what comes back is kept as it comes."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.errors import AlignlabError, RewardError
from alignlab.rewards.calls import event_loop
from alignlab.rewards.judges.base import AsyncJudge, Judge, Question, Verdict
from alignlab.rewards.judges.store import Store, content_key

CHUNK = 256  # questions that a judge on this machine gets at once: so many are lost when it is killed
RAMP = 0.05  # seconds over which the first questions to a server go out


@dataclass(frozen=True)
class Asked:
    """A judge under its name, and what it said before."""

    name: str
    judge: Judge | AsyncJudge
    store: Store
    weight: float = 1.0

    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return a verdict for each question, in order; equal questions are asked once.

        Raises RewardError with the judge's name. What had come back by then is kept.
        """
        keys = [self._key(question) for question in questions]
        found: dict[str, Verdict] = {}
        for key in dict.fromkeys(keys):
            if self.identity is not None and (kept := self.store.get(key)) is not None:
                found[key] = Verdict(**kept)
        missing = {key: q for key, q in zip(keys, questions, strict=True) if key not in found}
        try:
            if isinstance(self.judge, AsyncJudge):
                found |= asyncio.run_coroutine_threadsafe(self._ask_all(missing), event_loop()).result()
            else:
                found |= self._ask_in_chunks(missing)
        except AlignlabError as error:
            raise type(error)(f"judge {self.name!r}: {error.what}", where=error.where, do=error.do) from error
        return [found[key] for key in keys]

    @property
    def identity(self) -> Any:
        """What the judge's verdicts depend on; None for one that does not say."""
        return getattr(self.judge, "identity", None)

    def _key(self, question: Question) -> str:
        asked = [question.prompt, question.first, question.second, question.principle.question]
        return content_key(self.identity, question.principle.name == "", asked)

    def _ask_in_chunks(self, missing: dict[str, Question]) -> dict[str, Verdict]:
        assert isinstance(self.judge, Judge)
        # In the order of their length: a chunk's questions then run in full batches.
        keys = sorted(missing, key=lambda key: len(missing[key].first) + len(missing[key].second or ""))
        found: dict[str, Verdict] = {}
        for start in range(0, len(keys), CHUNK):
            part = keys[start : start + CHUNK]
            questions = [missing[key] for key in part]
            try:
                said = self.judge(questions)
            except AlignlabError:
                raise
            except Exception as error:
                raise RewardError(f"it raised {type(error).__name__}: {error}", where=_at(questions[0])) from error
            if isinstance(said, str) or not isinstance(said, Sequence) or len(said) != len(part):
                came = f"{len(said)} verdicts" if isinstance(said, Sequence) else f"{said!r:.80}"
                raise RewardError(f"it returned {came} for {len(part)} questions", do="return a list, one for each")
            new = {key: _checked(one, q) for key, one, q in zip(part, said, questions, strict=True)}
            self._keep(list(new.items()))
            found |= new
        return found

    async def _ask_all(self, missing: dict[str, Question]) -> dict[str, Verdict]:
        """Keep `concurrency` questions going until all are answered; the first error ends it, and the rest is kept."""
        assert isinstance(self.judge, AsyncJudge)
        left = iter(missing.items())
        found: dict[str, Verdict] = {}

        async def work(judge: AsyncJudge, late: float) -> None:
            # Questions that start together come back together, and then all wait for this process's one thread.
            await asyncio.sleep(late)
            for key, question in left:
                verdict = _checked(await judge.ask(question), question)
                self._keep([(key, verdict)])
                found[key] = verdict

        num = min(self.judge.concurrency, len(missing))
        workers = [asyncio.ensure_future(work(self.judge, RAMP * i / num)) for i in range(num)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return found

    def _keep(self, new: Sequence[tuple[str, Verdict]]) -> None:
        """Keep what can be used again; a reply that could not be read too: it was paid for."""
        if self.identity is not None:
            self.store.put([(key, {**vars(v), "facts": dict(v.facts)}) for key, v in new])


def _checked(said: Any, question: Question) -> Verdict:
    """Return a verdict. Raises RewardError for what is no probability."""
    verdict = said if isinstance(said, Verdict) else Verdict(said)
    value = verdict.probability
    if value is None:
        return verdict
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__") or not 0 <= float(value) <= 1:
        raise RewardError(
            f"it said {value!r:.80}, wanted a probability from 0 to 1, or None",
            where=_at(question),
            do="mend the judge",
        )
    assert math.isfinite(value)
    return Verdict(float(value), verdict.reply, dict(verdict.facts))


def _at(question: Question) -> str:
    return f"prompt {str(question.prompt)!r:.200}, answer {question.first!r:.200}"
