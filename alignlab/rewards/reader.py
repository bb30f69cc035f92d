"""How a reward model reads a policy's answers: as they are, or in its own tokens and chat template (PPO.md row 27)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from alignlab.batch import Batch, Sample, collate
from alignlab.data.chat import DEFAULT_TEMPLATE
from alignlab.data.example import Example
from alignlab.data.lengths import fit
from alignlab.data.sources import RowProblem
from alignlab.data.tokenize import tokenize
from alignlab.errors import RewardError
from alignlab.method import Run
from alignlab.models.source import say_once
from alignlab.rewards.text import answer_texts, describe, texts

Split = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Reader:
    """A reward model's tokenizer, and how many tokens the model takes."""

    tokenizer: PreTrainedTokenizerBase
    context: int
    where: str  # the model, for what is said of it
    name: str  # what the reward is logged as

    def read(self, run: Run, batch: Batch) -> Batch:
        """Return the batch for the reward model: as it is if both read it alike, else decoded and tokenized anew."""
        alike = same_vocabulary(run.tokenizer, self.tokenizer)
        if _is_chat(batch):
            alike &= _template(run.tokenizer) == _template(self.tokenizer)
        if alike and int(batch.lengths.max()) <= self.context:
            return batch
        say_once(
            f"{self.where}: this reward model has another tokenizer, chat template or context than the policy: answers "
            "are decoded, and put into its own"
        )
        return self.retokenized(run, batch)

    def retokenized(self, run: Run, batch: Batch, split: Split | None = None) -> Batch:
        """Decode the answers and tokenize them anew; with `split`, as steps that are scored where each ends.

        An answer that did not end by itself gets no end here either. Where prompt and answer are longer than the
        context, the prompt's start is cut off; the share of those answers is logged. Raises RewardError for a
        conversation that the tokenizer has no template for, or whose template refuses it, and for an answer that alone
        is too long.
        """
        if _is_chat(batch) and not self.tokenizer.chat_template:
            raise RewardError(
                "the data is conversational, and the reward model's tokenizer has no chat template to put answers into",
                where=self.where,
                do="set chat_template in its directory, or take a reward model with the policy's own tokenizer",
            )
        examples = _examples(run, batch, split)
        finished = getattr(batch, "finished", torch.ones(len(batch), dtype=torch.bool)).tolist()
        samples: list[Sample] = []
        num_cut = 0
        for row, found in enumerate(tokenize(examples, self.tokenizer)):
            try:
                if isinstance(found, RowProblem):
                    raise found
                if split is None and not finished[row]:
                    found["completion"] = _without_end(found["completion"])
                fitted = fit(found, self.context, "truncate_left", self.tokenizer.bos_token_id)
            except RowProblem as problem:
                too_long = f"it alone is over the {self.context} tokens that the model takes"
                raise RewardError(
                    f"{self.where} cannot read an answer: {too_long if problem.kind == 'useless' else problem}",
                    where=describe(run, batch, row),
                    do="lower `max_new_tokens`, or take another reward model",
                ) from problem
            num_cut += fitted is not found
            samples.append(fitted["completion"])
        if num_cut:
            say_once(f"{self.where}: prompts are cut at their start to fit this reward model's {self.context} tokens")
        run.log(**{f"prompt_cut/{self.name}": num_cut / max(len(batch), 1)})
        return collate(samples, list(range(len(samples))), batch.records).to(batch.tokens.device)


def _examples(run: Run, batch: Batch, split: Split | None) -> list[Example]:
    prompts, completions = texts(run, batch)
    if split is None:
        return [Example("?", {}, p, {"completion": c}) for p, c in zip(prompts, completions, strict=True)]
    cut = [split(said) or (said,) for said in answer_texts(run, batch)]
    return [Example("?", {}, prompt, {}, steps=steps) for prompt, steps in zip(prompts, cut, strict=True)]


@lru_cache(maxsize=16)
def same_vocabulary(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> bool:
    """Return whether two tokenizers mean the same by every token."""
    return bool(first.get_vocab() == second.get_vocab())


def _template(tokenizer: PreTrainedTokenizerBase) -> Any:
    return tokenizer.chat_template or DEFAULT_TEMPLATE


def _is_chat(batch: Batch) -> bool:
    return any(isinstance(record.columns.get("prompt"), list) for record in batch.records)


def _without_end(sample: Sample) -> Sample:
    """Take off the token that tokenizing ended the answer with."""
    return Sample(sample.tokens[:-1], sample.acted[:-1])
