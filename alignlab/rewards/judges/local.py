"""A language model on this machine as judge: it answers by the log-probs of its answer words, not by parsed text."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import Self

from alignlab.batch import Sample, collate
from alignlab.data.cache import tokenizer_print
from alignlab.data.example import Example
from alignlab.data.sources import RowProblem
from alignlab.data.tokenize import Samples, tokenize
from alignlab.errors import RewardError
from alignlab.models import find, load_model, load_tokenizer, logits_at
from alignlab.models.source import config_context, load_config
from alignlab.rewards.judges.base import JudgeContext, JudgeRule, Question, Verdict
from alignlab.rewards.judges.prompts import Wording, load_wording
from alignlab.rewards.judges.reasons import last_request, write_reasons


class LocalJudgeRule(JudgeRule):
    """A causal language model, of a phase of this run, a directory or a hub id.

    P(first is better) is softmax(log p("A"), log p("B")) after the question; how good a single answer is, is the mean
    of the digits 1 to 9 by their probabilities (Lee et al., 2023, arXiv 2309.00267), brought to 0..1. `sure` in a
    verdict is the probability of all answer words together: near 0, the model did not mean to answer.
    """

    name = "local"
    head = "lm"
    from_phase: str | None = Field(default=None, alias="from")
    path: str | None = None
    template: str | None = None
    """A file that asks for a letter, with {conversation} or {prompt}, {first}, {second} and {question}."""
    rate_template: str | None = None
    """A file that asks for a digit, with {first}."""
    reasons: NonNegativeInt = 0
    """Tokens that the model may write before it answers (a chain of thought): templates then ask for reasons."""
    batch_tokens: PositiveInt | None = None
    """Tokens (padding included) in one forward pass; 2048 on a CPU, whose caches hold no more, and else 16384."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.from_phase is None) == (self.path is None):
            raise ValueError("wants exactly one of `from` (a phase that trains a language model) and `path`")
        return self

    def wording(self) -> Wording:
        """Read the templates. Raises RecipeError."""
        return load_wording(self.template, self.rate_template, reasons=self.reasons > 0)

    def load(self, context: JudgeContext) -> "LocalJudge":
        """Load the model."""
        path = str(context.models[self.from_phase]) if self.from_phase is not None else find(str(self.path))
        wording, trust = self.wording(), context.trust_remote_code
        model = load_model(path, "lm", dtype=context.dtype, device=context.device, trust_remote_code=trust)
        tokenizer = load_tokenizer(path, trust)
        batch_tokens = self.batch_tokens or (2048 if context.device.type == "cpu" else 16384)
        return LocalJudge(
            model.requires_grad_(False),
            tokenizer,
            wording,
            min(batch_tokens, context.microbatch_tokens),
            config_context(load_config(path, trust)),
            path,
            ["local", weights_print(path), tokenizer_print(tokenizer), str(context.dtype), *wording.identity]
            + ([self.reasons] if self.reasons else []),
            self.reasons,
        )


@dataclass(frozen=True)
class LocalJudge:
    """A loaded judge."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    wording: Wording
    batch_tokens: int
    context: int
    where: str
    identity: list[Any]
    num_reasons: int = 0

    @torch.no_grad()
    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer a batch of questions; those of about one length run together."""
        reasons = self._reasons(questions) if self.num_reasons else [None] * len(questions)
        samples = self._tokens(questions, reasons)
        verdicts: dict[int, Verdict] = {}
        for rows in self._batches([len(prompt) for prompt, _ in samples]):
            prompts = [Sample(samples[row][0], (False,) * len(samples[row][0])) for row in rows]
            batch = collate(prompts, list(range(len(rows)))).to(self.model.device)
            last = torch.zeros_like(batch.valid)
            last[torch.arange(len(rows)), batch.lengths - 1] = True
            logp = logits_at(self.model, batch, last).float().log_softmax(-1)  # float [R, V]
            for row, line in zip(rows, logp, strict=True):
                verdicts[row] = self._verdict(questions[row], samples[row][1], line, reasons[row])
        return [verdicts[row] for row in range(len(questions))]

    def _reasons(self, questions: Sequence[Question]) -> list[str | None]:
        """Let the model write before it answers."""
        prompts = [prompt for prompt, _ in self._tokens(questions, [None] * len(questions), room=self.num_reasons)]
        found: dict[int, str] = {}
        for rows in self._batches([len(prompt) + self.num_reasons for prompt in prompts]):
            said = write_reasons(self.model, self.tokenizer, [prompts[row] for row in rows], self.num_reasons)
            found.update(zip(rows, said, strict=True))
        return [found[row] for row in range(len(questions))]

    def _verdict(self, question: Question, words: Mapping[str, int], logp: Tensor, reasons: str | None) -> Verdict:
        worth = self.wording.words(question)
        found = logp[list(words.values())].double()
        sure = float(found.exp().sum())
        share = found.softmax(0)
        value = sum(float(p) * worth[word] for p, word in zip(share, words, strict=True))
        return Verdict(min(max(value, 0.0), 1.0), reasons or "", facts={"sure": min(sure, 1.0)})

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return rows, the longest first, as many at a time as fit."""
        batches: list[list[int]] = []
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > self.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _tokens(
        self, questions: Sequence[Question], reasons: Sequence[str | None], room: int = 0
    ) -> list[tuple[tuple[int, ...], Mapping[str, int]]]:
        """Return the tokens that are asked, and the first token of each word that may follow them."""
        examples = [self._example(question, (), said) for question, said in zip(questions, reasons, strict=True)]
        firsts: dict[tuple[bool, bool], Mapping[str, int]] = {}  # by what the words depend on
        found = []
        for question, samples in zip(questions, tokenize(examples, self.tokenizer), strict=True):
            prompt = self._checked(samples)["prompt"].tokens
            if len(prompt) + room > self.context:
                more = f" with {room:,} for reasons" if room else ""
                raise RewardError(
                    f"a question has {len(prompt) + room:,} tokens{more}, and the judge's context is {self.context:,}",
                    where=f"{self.where}, prompt {str(question.prompt)!r:.200}",
                    do="judge shorter answers (`max_new_tokens`, `max_length`), or take another judge",
                )
            kind = (question.second is None, self._is_chat(question))
            if kind not in firsts:
                firsts[kind] = self._first_tokens(question)
            found.append((prompt, firsts[kind]))
        return found

    def _is_chat(self, question: Question) -> bool:
        return isinstance(question.prompt, list) or bool(self.tokenizer.chat_template)

    def _first_tokens(self, question: Question) -> Mapping[str, int]:
        """Return the first token of each answer word. A word is a piece of its own, so the question does not matter."""
        words = self.wording.words(question)
        samples = self._checked(tokenize([self._example(question, tuple(words))], self.tokenizer)[0])
        firsts = {word: samples[word].tokens[len(samples["prompt"])] for word in words}
        if len(set(firsts.values())) < len(firsts):
            what = f"the judge's tokenizer begins {' and '.join(firsts)} with one token, so it cannot choose"
            raise RewardError(what, where=self.where, do="take another model")
        return firsts

    def _example(self, question: Question, words: Sequence[str], reasons: str | None = None) -> Example:
        text, request = self.wording.text(question), last_request(question)
        if not self._is_chat(question):
            text += f"\n{reasons}\n\n{request}" if reasons is not None else ""
            return Example("?", {}, text, {word: f" {word}" for word in words})
        said = {word: [{"role": "assistant", "content": word}] for word in words}
        turns = [("user", text), *([] if reasons is None else [("assistant", reasons), ("user", request)])]
        return Example("?", {}, [{"role": role, "content": content} for role, content in turns], said)

    def _checked(self, samples: Samples | RowProblem) -> Samples:
        if isinstance(samples, RowProblem):
            raise RewardError(f"the judge cannot be asked: {samples}", where=self.where)
        return samples


def weights_print(path: str) -> str:
    """Return a hash of the files of a model's directory; of a hub id, its name."""
    if not Path(path).is_dir():
        return path
    digest = hashlib.sha256()
    for file in sorted(file for file in Path(path).iterdir() if file.is_file()):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()
