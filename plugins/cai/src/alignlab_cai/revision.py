"""Critique and revision as a data stage: a policy answers, somebody criticises and revises, in rounds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from typing_extensions import Self

from alignlab import Constitution, ConstitutionSettings, DataContext, DataSettings, Principle, WriterSettings

DEFAULT = "alignlab_cai:constitution.yaml"
Turns = list[dict[str, Any]]


class RevisionSettings(ConstitutionSettings):
    """Whose answers to which prompts are revised, by whom, under what."""

    prompts: DataSettings
    """A data source of its own; what its `eval` holds out is not answered."""
    constitution: str | None = DEFAULT
    from_phase: str | None = Field(default=None, alias="from")
    """The phase whose model answers; the one that this phase starts from if it is not given."""
    writer: WriterSettings | None = None
    """Who criticises and revises; the model that answers if it is not given."""
    rounds: PositiveInt = 1
    principles_per_round: PositiveInt = 1
    """Drawn by weight, and asked about together."""
    num_examples: NonNegativeInt = 0
    """Of the constitution's worked examples, shown before each request."""
    num_prompts: PositiveInt | None = None
    """The first so many; all of them if it is not given."""
    max_new_tokens: PositiveInt = 128
    """Of an answer."""
    temperature: NonNegativeFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _can_revise(self) -> Self:
        if revisable(self) is None:
            raise ValueError("names a constitution without a `critique` and a `revision`: there is nothing to ask")
        return self


@dataclass
class Chain:
    """One prompt, its answer, and what became of it."""

    where: str
    prompt: Any
    answer: str
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def latest(self) -> str:
        """The answer as it stands."""
        return str(self.rounds[-1]["revision"]) if self.rounds else self.answer


class CritiqueRevision:
    """The data source `critique_revision`: prompts with their last revisions; the chains are in revisions.jsonl."""

    name = "critique_revision"
    settings = RevisionSettings

    def make(self, settings: RevisionSettings, context: DataContext) -> Iterator[dict[str, Any]]:
        """Answer, criticise, revise."""
        asked = context.prompts(settings.prompts)[: settings.num_prompts]
        sampling = {name: getattr(settings, name) for name in ("max_new_tokens", "temperature", "top_p")}
        answers = context.respond(settings.from_phase, [prompt for _, prompt in asked], num_samples=1, **sampling)
        chains = [Chain(where, prompt, said[0]) for (where, prompt), said in zip(asked, answers, strict=True)]
        own = WriterSettings.model_validate(
            {
                "from": settings.from_phase,
                "max_new_tokens": settings.max_new_tokens,
                "temperature": settings.temperature,
            }
        )
        writer = context.writer(settings.writer or own)
        constitution = revisable(settings)
        assert constitution is not None, "it was checked"
        unchanged = 0
        for number in range(settings.rounds):
            drawn = [draw(constitution, settings, f"{context.seed} {number} {c.where} {c.prompt}") for c in chains]
            seed = context.seed + 1000003 * (2 * number)
            requests = [conversation(c, d, constitution, settings) for c, d in zip(chains, drawn, strict=True)]
            critiques = writer(requests, seed)
            for request, critique, chain, principles in zip(requests, critiques, chains, drawn, strict=True):
                request += [_turn("assistant", critique), _turn("user", ask(principles, "revision", chain))]
            revisions = writer(requests, seed + 1000003)
            for chain, principles, critique, revision in zip(chains, drawn, critiques, revisions, strict=True):
                kept = revision if revision.strip() else chain.latest  # nothing was said: the answer stays
                unchanged += kept == chain.latest
                names = [principle.name for principle in principles]
                chain.rounds.append({"principles": names, "critique": critique, "revision": kept})
        with (context.directory / "revisions.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(json.dumps(vars(chain), ensure_ascii=False) + "\n" for chain in chains)
        empty = sum(not chain.latest.strip() for chain in chains)
        context.log(revised=len(chains), rounds=settings.rounds, unchanged=unchanged, empty=empty, **writer.facts)
        context.say(
            f"{len(chains):,} answers revised {settings.rounds} times; {unchanged:,} revisions changed nothing, "
            f"{empty:,} answers without text dropped"
        )
        for chain in chains:
            if chain.latest.strip():
                text = isinstance(chain.prompt, str)
                yield {
                    "prompt": chain.prompt,
                    "completion": chain.latest if text else [_turn("assistant", chain.latest)],
                }


def revisable(settings: ConstitutionSettings) -> Constitution | None:
    """Return the principles that ask for revisions, or None if there are none."""
    found = settings.load_constitution()
    kept = tuple(principle for principle in found.principles if principle.critique) if found else ()
    return Constitution(kept, found.examples, found.where) if found and kept else None


def draw(constitution: Constitution, settings: RevisionSettings, seed: str) -> list[Principle]:
    """Draw the principles of a round, by weight, each at most once."""
    rng, left = Random(seed), list(constitution.principles)
    drawn: list[Principle] = []
    while left and len(drawn) < settings.principles_per_round:
        drawn.append(left.pop(rng.choices(range(len(left)), [principle.weight for principle in left])[0]))
    return drawn


def conversation(
    chain: Chain, principles: Sequence[Principle], constitution: Constitution, settings: RevisionSettings
) -> Turns:
    """Return worked examples, the prompt, the answer as it stands, and the request for a critique."""
    turns: Turns = []
    for example in constitution.examples[: settings.num_examples]:
        shown = Chain("", example.prompt, example.answer)
        turns += [_turn("user", example.prompt), _turn("assistant", example.answer)]
        turns += [_turn("user", ask(principles, "critique", shown)), _turn("assistant", example.critique)]
        turns += [_turn("user", ask(principles, "revision", shown)), _turn("assistant", example.revision)]
    turns += [_turn("user", chain.prompt)] if isinstance(chain.prompt, str) else chain.prompt
    return [*turns, _turn("assistant", chain.latest), _turn("user", ask(principles, "critique", chain))]


def ask(principles: Sequence[Principle], what: str, chain: Chain) -> str:
    """Return the requests of some principles as one."""
    prompt = chain.prompt if isinstance(chain.prompt, str) else chain.prompt[-1]["content"]
    return " ".join(getattr(p, what).format(prompt=prompt, answer=chain.latest) for p in principles)


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}
