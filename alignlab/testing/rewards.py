"""check_reward: what every reward has to hold, a registered rule or a plain function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignlab import builtin
from alignlab.batch import Batch, Record, Sample, collate
from alignlab.config.settings import Settings
from alignlab.engine.judging import JudgeLoader
from alignlab.engine.run import EngineRun
from alignlab.models import load_model, load_tokenizer
from alignlab.plugins import Plugins
from alignlab.rewards import FunctionReward, Reward, RewardContext, RewardRule, Rewards, Weighted, import_function
from alignlab.rewards.judges import JudgeContext
from alignlab.testing.promise import BrokenPromise, called, check_round_trip, run_checks, same_values
from alignlab.testing.world import scratch, shared_model, tiny_rows

NUM_ANSWERS = 8
CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Subject:
    """A reward under test."""

    rule: RewardRule | FunctionReward
    directory: Path

    @cached_property
    def reward(self) -> Reward:
        """The reward, loaded."""
        if not isinstance(self.rule, RewardRule):
            return self.rule
        loader = JudgeLoader(Plugins(builtin), JudgeContext(), self.directory / "replies.sqlite")
        return self.rule.load(RewardContext({}, CPU, name="checked", panel=loader.panel))

    @cached_property
    def run(self) -> EngineRun:
        """A run to ask for a tokenizer."""
        path = str(shared_model())
        model = load_model(path, "lm", dtype=torch.float32, device=CPU)
        return EngineRun({"policy": model}, load_tokenizer(path), seed=0)

    def batch(self, *, text: bool = True) -> Batch:
        """Return prompts with answers: the same tokens, whether the data was text or conversations."""
        samples, records = [], []
        end = int(self.run.tokenizer.eos_token_id or 0)
        for i, row in enumerate(tiny_rows("completion", NUM_ANSWERS)):
            asked, said = row["prompt"][-1]["content"], row["completion"][0]["content"]
            prompt, answer = (self.run.tokenizer.encode(words, add_special_tokens=False) for words in (asked, said))
            answer.append(end)
            samples.append(Sample((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer)))
            columns = {"prompt": asked if text else [{"role": "user", "content": asked}], "a_column": i}
            records.append(Record(columns, {"prompt": Sample(tuple(prompt), (False,) * len(prompt))}, f"row {i + 1}"))
        return collate(samples, unit=range(len(samples)), records=records)

    def scores(self, batch: Batch) -> list[float]:
        """Ask it as the engine does. Raises RewardError for what is no number a row."""
        self.run.begin(1)
        total, _ = Rewards((Weighted("checked", self.reward),))(self.run, batch)
        return [float(value) for value in total]


def _check_settings(subject: _Subject) -> None:
    if isinstance(subject.rule, Settings):
        check_round_trip(subject.rule)


def _check_scores(subject: _Subject) -> None:
    """Check that there is a number for every answer, that it differs somewhere, and that the batch stays as it is."""
    batch = subject.batch()
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, Tensor)}
    columns = [dict(record.columns) for record in batch.records]
    subject.scores(batch)
    changed = [name for name, value in before.items() if not torch.equal(getattr(batch, name), value)]
    changed += ["records" for record, known in zip(batch.records, columns, strict=True) if record.columns != known][:1]
    if changed:
        found = f"it changed {', '.join(changed)}"
        raise BrokenPromise("a reward leaves the batch as it is", found, "an operation in place: work on a copy")


def _check_determinism(subject: _Subject) -> None:
    once, again = (subject.scores(subject.batch()) for _ in range(2))
    if not same_values(once, again, 0):
        cause = "random numbers that are not from run.rng, a model with dropout, or an API that samples"
        raise BrokenPromise("the same answers get the same scores", f"{once[:4]}, and then {again[:4]}", cause)


def _check_batching(subject: _Subject) -> None:
    """Check that a score hangs on its own answer alone."""
    batch = subject.batch()
    whole = subject.scores(batch)
    alone = [score for i in range(len(batch)) for score in subject.scores(batch.select(torch.tensor([i])))]
    if not same_values(whole, alone, 1e-4):
        cause = "it normalises over the batch, or keeps a count between calls: a method's reward stage is the place"
        raise BrokenPromise(
            "a score does not depend on the other answers", f"{whole[:4]} together, {alone[:4]} one by one", cause
        )


def _check_order(subject: _Subject) -> None:
    batch = subject.batch()
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(3))
    whole, shuffled = subject.scores(batch), subject.scores(batch.select(order))
    wanted = [whole[i] for i in order.tolist()]
    if not same_values(wanted, shuffled, 1e-4):
        cause = "scores come back in another order than the answers (sorted by length? as replies arrive?)"
        raise BrokenPromise("scores come in the order of the answers", f"{shuffled[:4]}, wanted {wanted[:4]}", cause)


def _check_padding(subject: _Subject) -> None:
    batch = subject.batch()
    width = batch.tokens.shape[1]

    def pad(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (3, 4)) if x.dim() > 1 and x.shape[1] == width else x

    whole, padded = subject.scores(batch), subject.scores(batch.map(pad))
    if not same_values(whole, padded, 1e-4):
        cause = "it looks at columns of `tokens` without `valid` and `acted`"
        raise BrokenPromise("scores do not depend on padding", f"{padded[:4]}, and {whole[:4]} without", cause)


def _check_conversations(subject: _Subject) -> None:
    """Check that conversations are read, as text is; a model may well score the two differently."""
    text, turns = subject.scores(subject.batch()), subject.scores(subject.batch(text=False))
    if len(set(turns)) == 1 and len(set(text)) > 1:
        raise BrokenPromise(
            "answers that differ as text differ as conversations too",
            f"{turns[:4]} for lists of messages, and {text[:4]} for text",
            "len() or a search in what is a list of {role, content}: use alignlab.answer_texts(run, batch), or look at "
            "completion[-1]['content'] where it is a list",
        )


_CHECKS: dict[str, Callable[[_Subject], None]] = {
    "settings": _check_settings,
    "scores": _check_scores,
    "determinism": _check_determinism,
    "batching": _check_batching,
    "order": _check_order,
    "padding": _check_padding,
    "conversations": _check_conversations,
}
REWARD_CHECKS = tuple(_CHECKS)
"""The checks of a reward, in the order in which they run."""


def check_reward(
    reward: str | type[RewardRule] | Callable[..., Any],
    settings: Mapping[str, Any] = {},
    *,
    checks: Sequence[str] | None = None,
) -> None:
    """Check that a reward holds what the engine builds on, on answers of the small world.

    `reward` is a name that an installed plugin registers, `package.module:function`, a class of settings, or a
    function. `checks` chooses among REWARD_CHECKS. Raises BrokenPromise.
    """

    def find(directory: Path) -> _Subject:
        found: Any = reward
        if isinstance(reward, str):
            found = import_function(reward) if ":" in reward else Plugins(builtin).get("reward", reward)
        if isinstance(found, type) and issubclass(found, RewardRule):
            return _Subject(found.model_validate(dict(settings)), directory)
        return _Subject(found if isinstance(found, FunctionReward) else FunctionReward(found), directory)

    with scratch() as directory:
        run_checks(_CHECKS, checks, called("reward", reward), lambda: find(directory))
