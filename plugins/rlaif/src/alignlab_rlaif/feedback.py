"""AI feedback as a data stage: a policy answers, a judge compares, and the pairs are preferences with soft labels."""

from collections.abc import Iterator
from itertools import combinations
from random import Random
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from alignlab import DataContext, DataSettings, Judgement, Pair, Panel, PanelSettings


class FeedbackSettings(PanelSettings):
    """Whose answers to which prompts are compared, by whom, and which pairs are kept."""

    prompts: DataSettings
    """A data source of its own; what its `eval` holds out is not answered."""
    from_phase: str | None = Field(default=None, alias="from")
    """The phase whose model answers; the one that this phase starts from if it is not given."""
    num_prompts: PositiveInt | None = None
    """The first so many; all of them if it is not given."""
    num_answers: Annotated[int, Field(ge=2, le=1024)] = 2
    """Answers to each prompt; every two of them make a pair."""
    num_pairs: PositiveInt | None = None
    """Pairs to each prompt, drawn from all of them; every pair if it is not given, or if there are no more."""
    max_new_tokens: PositiveInt = 64
    temperature: NonNegativeFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    orders_agree: bool = True
    """Drop pairs of which the judge prefers the other answer when they are asked in the other order."""
    min_margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Drop pairs whose probability is nearer to 1/2 than this; ties are always dropped."""


class Feedback:
    """The data source `ai_feedback`: rows with `chosen`, `rejected` and P(chosen is better) as `probability`."""

    name = "ai_feedback"
    settings = FeedbackSettings

    def make(self, settings: FeedbackSettings, context: DataContext) -> Iterator[dict[str, Any]]:
        """Sample, compare and filter. Raises RewardError if nothing that the judge said can be used."""
        asked = context.prompts(settings.prompts)[: settings.num_prompts]
        sampling = {name: getattr(settings, name) for name in ("max_new_tokens", "temperature", "top_p")}
        prompts = [prompt for _, prompt in asked]
        answers = context.respond(settings.from_phase, prompts, num_samples=settings.num_answers, **sampling)
        every = [
            Pair(prompt, first, second, where)
            for row, ((where, prompt), found) in enumerate(zip(asked, answers, strict=True))
            for first, second in drawn(list(combinations(found, 2)), settings.num_pairs, f"{context.seed} {row}")
        ]
        said = [pair for pair in every if pair.first.strip() and pair.second.strip()]
        pairs = [pair for pair in said if pair.first.strip() != pair.second.strip()]
        dropped = {"empty": len(every) - len(said), "equal": len(said) - len(pairs)}
        context.say(f"{len(prompts):,} prompts answered, {len(pairs):,} pairs to compare")
        yield from label(context.panel(settings), pairs, settings, context, dropped)


def drawn(pairs: list[tuple[str, str]], num: int | None, seed: str) -> list[tuple[str, str]]:
    """Return `num` of the pairs, in their order."""
    if num is None or num >= len(pairs):
        return pairs
    return [pairs[place] for place in sorted(Random(seed).sample(range(len(pairs)), num))]


def label(
    panel: Panel, pairs: list[Pair], settings: FeedbackSettings, context: DataContext, dropped: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each pair that is kept; say how many were dropped, and why."""
    dropped = {**dropped, "unread": 0, "orders_disagree": 0, "small_margin": 0}
    for found in panel.compare(pairs):
        reason = why_not(found, settings)
        if reason is not None:
            dropped[reason] += 1
            continue
        assert found.probability is not None
        first_wins = found.probability > 0.5
        chosen, rejected = (found.pair.first, found.pair.second)[:: 1 if first_wins else -1]
        yield {
            "prompt": found.pair.prompt,
            "chosen": turn(chosen, found.pair),
            "rejected": turn(rejected, found.pair),
            "probability": max(found.probability, 1 - found.probability),
        }
    context.log(**panel.tally.numbers(), **{f"dropped_{reason}": num for reason, num in dropped.items()})
    reasons = ", ".join(f"{num:,} {reason.replace('_', ' ')}" for reason, num in dropped.items() if num)
    context.say(f"{panel.tally.pairs:,} pairs judged; dropped: {reasons or 'none'}")
    if tokens := panel.tally.facts.get("prompt_tokens"):
        cost = f", cost {panel.tally.facts['cost']:.4g}" if "cost" in panel.tally.facts else ""
        context.say(f"{tokens:,.0f} prompt tokens, {panel.tally.facts['reply_tokens']:,.0f} reply tokens{cost}")
    for warning in panel.tally.warnings():
        context.say(f"warning: {warning}")
    panel.check_useful()


def why_not(found: Judgement, settings: FeedbackSettings) -> str | None:
    """Return why a pair teaches nothing, or None."""
    if found.probability is None:
        return "unread"
    if settings.orders_agree and not found.agrees:
        return "orders_disagree"
    if found.probability == 0.5 or abs(found.probability - 0.5) < settings.min_margin:
        return "small_margin"
    return None


def turn(answer: str, pair: Pair) -> Any:
    """Return an answer in the prompt's kind: text, or the assistant's turn."""
    return answer if isinstance(pair.prompt, str) else [{"role": "assistant", "content": answer}]
