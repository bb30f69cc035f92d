"""Rewards: what scores an answer, and how several of them become one number a row.

A reward is called as `reward(run, batch) -> float [B]`; NaN abstains. A plain function in the signature people have,
`f(prompts, completions, completion_ids, **columns) -> list[float | None]`, is one too.
"""

import asyncio
import importlib
import inspect
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab.batch import Batch
from alignlab.config.settings import Settings
from alignlab.errors import RewardError
from alignlab.method import Run
from alignlab.models import find, load_config, load_model, load_tokenizer, sequence_scores


class Reward(Protocol):
    """Scores a batch: float [B], NaN where it abstains."""

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row."""
        ...


@dataclass(frozen=True)
class RewardContext:
    """What a reward may need while it is loaded."""

    models: Mapping[str, Path]  # the exported model of each finished phase
    device: torch.device
    dtype: torch.dtype = torch.float32
    trust_remote_code: bool = False
    microbatch_tokens: int = 16384


class RewardRule(Settings):
    """The base of registered rewards: a record of settings that scores, or that loads what scores."""

    name: ClassVar[str]

    def load(self, context: RewardContext) -> Reward:
        """Load what is heavy, once a phase. A rule that needs nothing is its own reward."""
        return self

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row."""
        raise NotImplementedError(f"reward {self.name!r} has no __call__()")


class RewardModelRule(RewardRule):
    """A trained reward model: the scalar head's output after the answer's last token, normalised.

    The score is (output - mean) / std with the mean and std over the answers that the reward model was evaluated on
    (PPO.md row 6), which its directory keeps in alignlab.json; 0 and 1 if it keeps none or `normalize` is off.
    """

    name = "reward_model"
    from_phase: str | None = Field(default=None, alias="from")
    path: str | None = None
    normalize: bool = True

    @model_validator(mode="after")
    def _one_of(self) -> "RewardModelRule":
        if (self.from_phase is None) == (self.path is None):
            raise ValueError("wants exactly one of `from` (a phase that trains a reward model) and `path`")
        return self

    def directory(self, models: Mapping[str, Path]) -> str:
        """Return the directory or hub id that is loaded."""
        return str(models[self.from_phase]) if self.from_phase is not None else find(str(self.path))

    def load(self, context: RewardContext) -> Reward:
        """Load the model of a phase of this run, or of a directory or hub id."""
        path = self.directory(context.models)
        trust = context.trust_remote_code
        if not any("ForSequenceClassification" in name for name in load_config(path, trust).architectures or []):
            raise RewardError(
                "this is no reward model: it has no scalar head, so every score would be 0",
                where=path,
                do="name a phase that trains one, or a directory that AutoModelForSequenceClassification made",
            )
        model = load_model(path, "scalar", dtype=context.dtype, device=context.device, trust_remote_code=trust)
        mean, std = score_scale(Path(path)) if self.normalize else (0.0, 1.0)
        tokenizer = load_tokenizer(path, trust)
        return TrainedReward(model.requires_grad_(False), tokenizer, mean, std, path, context.microbatch_tokens)


def score_scale(directory: Path) -> tuple[float, float]:
    """Return mean and std of a reward model's scores on its eval set, from alignlab.json in its directory."""
    file = directory / "alignlab.json"
    try:
        measured = json.loads(file.read_text()).get("eval", {}) if file.is_file() else {}
    except ValueError as error:
        raise RewardError(f"alignlab.json is damaged: {error}", where=str(file), do="restore or remove it") from error
    if "score_mean" not in measured:
        logging.getLogger("alignlab").warning(
            "%s: no scale was measured for its scores (hold rows out with `eval` when training it): used as they are",
            directory,
        )
        return 0.0, 1.0
    mean = measured["score_mean"]
    std = math.sqrt(max(measured["score_square"] - mean**2, 0.0))
    if std < 1e-6:
        raise RewardError(
            "the reward model gave every held-out answer the same score", where=str(directory), do="train it longer"
        )
    return mean, std


@dataclass(frozen=True)
class TrainedReward:
    """A loaded reward model, and the scale of its scores."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    mean: float
    std: float
    where: str
    microbatch_tokens: int

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        if run.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise RewardError(
                "the policy and the reward model have different tokenizers, so its scores would be meaningless",
                where=self.where,
                do="train the reward model from the same base model as the policy",
            )
        rows = torch.arange(len(batch), device=batch.tokens.device)
        size = max(self.microbatch_tokens // max(batch.tokens.shape[1], 1), 1)
        scores = [sequence_scores(self.model, batch.select(part)) for part in rows.split(size)]
        return (torch.cat(scores) - self.mean) / self.std


@dataclass(frozen=True)
class FunctionReward:
    """A plain or async function `f(prompts, completions, completion_ids, **columns) -> list[float | None]`."""

    function: Callable[..., Any]

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Call it with the batch as text (or as messages where the data was conversational)."""
        prompts, completions = texts(run, batch)
        names = set.intersection(*(set(r.columns) for r in batch.records)) if batch.records else set()
        columns = {
            name: [record.columns[name] for record in batch.records]
            for name in names - {"prompt", "prompts", "completion", "completions", "completion_ids"}
        }
        ids = [batch.tokens[i][batch.acted[i]].tolist() for i in range(len(batch))]
        found = self.function(prompts=prompts, completions=completions, completion_ids=ids, **columns)
        if inspect.isawaitable(found):
            found = asyncio.run(_wait(found))
        return _numbers(found, len(batch), prompts, batch.tokens.device)


async def _wait(found: Any) -> Any:
    return await found


def _numbers(found: Any, num_rows: int, prompts: Sequence[Any], device: torch.device) -> Tensor:
    """Turn what a function returned into float [B]; None abstains."""
    if isinstance(found, Tensor):
        found = found.tolist()
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise RewardError(f"it returned {found!r:.200}; wanted a list of {num_rows} numbers")
    if len(found) != num_rows:
        raise RewardError(f"it returned {len(found)} numbers for {num_rows} answers")
    for value, prompt in zip(found, prompts, strict=True):
        if value is not None and (isinstance(value, str | bytes) or not hasattr(value, "__float__")):
            raise RewardError(f"it returned {value!r:.200} for an answer; wanted a number or None", where=_at(prompt))
    return torch.tensor([math.nan if v is None else float(v) for v in found], device=device)


def texts(run: Run, batch: Batch) -> tuple[list[Any], list[Any]]:
    """Return prompts and completions as the data had them: strings, or lists of messages."""
    prompts: list[Any] = []
    completions: list[Any] = []
    for i in range(len(batch)):
        acted = batch.acted[i]
        answer = str(run.tokenizer.decode(batch.tokens[i][acted], skip_special_tokens=True))
        prompt = batch.records[i].columns.get("prompt") if batch.records else None
        if prompt is None:
            prompt = str(run.tokenizer.decode(batch.tokens[i][batch.valid[i] & ~acted], skip_special_tokens=True))
        conversational = not isinstance(prompt, str)
        prompts.append(prompt)
        completions.append([{"role": "assistant", "content": answer}] if conversational else answer)
    return prompts, completions


@dataclass(frozen=True)
class Weighted:
    """One reward of a phase, its name in the logs, and its weight."""

    name: str
    reward: Reward
    weight: float = 1.0


@dataclass(frozen=True)
class Rewards:
    """The rewards of a phase: their weighted sum, and each by its name."""

    parts: tuple[Weighted, ...]

    def __call__(self, run: Run, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum over the rewards that do not abstain, float [B], and every reward by name."""
        components = {part.name: self._score(part, run, batch) for part in self.parts}
        stacked = torch.stack([components[part.name] * part.weight for part in self.parts])  # float [R, B]
        silent = stacked.isnan().all(0)
        if silent.any():
            row = int(silent.nonzero()[0])
            raise RewardError("every reward abstains (NaN) on an answer", where=_describe(run, batch, row))
        return stacked.nansum(0), components

    def _score(self, part: Weighted, run: Run, batch: Batch) -> Tensor:
        """Call one reward, and stop the run if what comes back is not one number a row (PPO.md row 30)."""
        say = f"reward {part.name!r}"
        try:
            with torch.no_grad():
                scores = part.reward(run, batch)
        except RewardError as error:
            raise RewardError(f"{say}: {error.what}", where=error.where, do=error.do) from error
        except Exception as error:
            where = _describe(run, batch, 0) + " (the first of the batch)"
            raise RewardError(f"{say} raised {type(error).__name__}: {error}", where=where) from error
        if not isinstance(scores, Tensor) or scores.shape != (len(batch),):
            came = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RewardError(f"{say} returned {came}; wanted a tensor of shape [{len(batch)}]")
        scores = scores.float()
        wrong = scores.isinf() | (scores.isnan().all() & scores.isnan())
        if wrong.any():
            row = int(wrong.nonzero()[0])
            what = f"{say} returned {float(scores[row])}" + (" for every answer" if scores.isnan().all() else "")
            raise RewardError(what, where=_describe(run, batch, row), do="mend the reward; NaN or None abstains")
        return scores.to(batch.tokens.device)


def _describe(run: Run, batch: Batch, row: int) -> str:
    one = batch.select(torch.tensor([row], device=batch.tokens.device))
    prompts, completions = texts(run, one)
    at = f"{batch.records[row].where}, " if batch.records else ""
    return f"{at}{_at(prompts[0])}, answer {completions[0]!r:.300}"


def _at(prompt: Any) -> str:
    return f"prompt {prompt!r:.300}"


def import_function(spec: str) -> FunctionReward:
    """Import `package.module:function` as a reward."""
    module, _, name = spec.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RewardError(
            f"cannot import the reward {spec!r}: {error}",
            do="name it as `package.module:function`, in a package that is installed or on PYTHONPATH",
        ) from error
    if not callable(function):
        raise RewardError(f"the reward {spec!r} is a {type(function).__name__}, not a function")
    return FunctionReward(function)
