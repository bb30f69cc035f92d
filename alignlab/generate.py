"""Sampling: answers to prompts, with the log-probs they were drawn with."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Protocol

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab.config.settings import Settings
from alignlab.data import stop_tokens
from alignlab.errors import DataError, ModelError
from alignlab.models import EqualRows, config_context, decoder
from alignlab.models.decode import Decoder

REFILL = 0.25
"""The share of places that are empty before new prompts are run."""


class Sampling(Settings):
    """How answers are drawn."""

    max_new_tokens: PositiveInt = 64
    temperature: NonNegativeFloat = 1.0
    """0 takes the likeliest token."""
    top_k: NonNegativeInt = 0
    """Draw among the k likeliest tokens; 0 among all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw among the likeliest tokens (of those that top_k leaves) whose probabilities reach p."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """An answer also ends with the token that completes one of these."""
    num_samples: PositiveInt = 1
    """Answers to each prompt."""


@dataclass(frozen=True)
class Answer:
    """One answer: its tokens, the stop token included, and the log-prob of each.

    The log-probs are those of the whole vocabulary at the sampling temperature, before top-k and top-p, so that they
    can be compared with the trainer's; for greedy answers those at temperature 1.
    """

    tokens: tuple[int, ...]
    logp: tuple[float, ...]
    finished: bool  # it ended by itself (EOS or a stop string), not by its length


class Generator(Protocol):
    """What `register_generators` registers: a sampler by name."""

    name: str

    def __call__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Answer]:
        """Answer every prompt. An answer depends on its prompt and seed, not on the rows beside it."""
        ...


class TorchGenerator:
    """A sampler with a KV cache, in torch.

    Every row has its own seed, and inverts the distribution's CDF at uniforms drawn from it: an answer is the same in
    any batch, up to rounding at the edges of the CDF's steps. When a row has ended, the next prompt takes its place.
    """

    name = "torch"

    def __init__(self, max_cached_tokens: int = 131072, max_rows: int | None = None) -> None:
        """Answer up to `max_rows` prompts at a time, and no more than the cache has room for."""
        self.max_cached_tokens = max_cached_tokens
        self.max_rows = max_rows

    @torch.no_grad()  # not inference_mode: training may read what comes out
    def __call__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Answer]:
        """Answer every prompt; prompts of about one length run together.

        An answer is cut where the model's context ends. Raises DataError for a prompt that leaves it no room.
        """
        rooms = _rooms(model, prompts, sampling)
        was_training = model.training
        model.eval()  # with gradient checkpointing, train mode would drop the cache
        try:
            drawn = _Answers(model, tokenizer, sampling, prompts, rooms, seeds)
            for rows, num_rows, rows_decoder in self._runs(model, prompts, rooms):
                drawn.draw(rows, num_rows, rows_decoder)
        finally:
            model.train(was_training)
        return drawn.answers()

    def _runs(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], rooms: Sequence[int]
    ) -> Iterator[tuple[list[int], int, Decoder]]:
        """Yield rows, how many of them run at a time, and what runs them; the longest prompts first."""
        order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
        if not order:
            return
        width = max(len(prompt) + room for prompt, room in zip(prompts, rooms, strict=True))
        num_rows = min(len(order), self.max_rows or len(order), max(self.max_cached_tokens // width, 1))
        slots = decoder(model, num_rows, width)
        if slots is not None:
            yield order, num_rows, slots
            return
        for _, equal in groupby(order, key=lambda row: len(prompts[row])):
            rows = list(equal)
            for first in range(0, len(rows), num_rows):
                yield rows[first : first + num_rows], num_rows, EqualRows(model)


def _rooms(model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[int]:
    """Return how many tokens each answer may have."""
    context = config_context(model.config)
    if bad := [row for row, prompt in enumerate(prompts) if not 0 < len(prompt) < context]:
        row = bad[0]
        empty = not len(prompts[row])
        raise DataError(
            f"prompt {row} is empty; there has to be a token to go on from"
            if empty
            else f"prompt {row} has {len(prompts[row])} tokens and the model's context {context}, so no answer fits",
            where=f"{len(bad)} of {len(prompts)} prompts",
            do="begin it with the tokenizer's BOS, or drop the row"
            if empty
            else "shorten or drop them: `data: {max_length: ..., overlong: truncate_left}` or `overlong: drop`",
        )
    return [min(sampling.max_new_tokens, context - len(prompt)) for prompt in prompts]


class _Answers:
    """Answers while they are drawn."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        prompts: Sequence[Sequence[int]],
        rooms: Sequence[int],
        seeds: Sequence[int],
    ) -> None:
        """Draw every row's random numbers."""
        self.tokenizer, self.sampling, self.prompts, self.rooms = tokenizer, sampling, prompts, rooms
        self.device, self.eos = model.device, eos_tokens(model, tokenizer)
        # numpy's generator takes seeds of any size; torch's CPU generator looks at their lower 32 bits only.
        self.uniforms = [
            np.random.default_rng(seed).random(room).tolist() for seed, room in zip(seeds, rooms, strict=True)
        ]
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.logp: list[list[float]] = [[] for _ in prompts]
        self.finished = [False] * len(prompts)

    def draw(self, rows: Sequence[int], num_rows: int, decoder: Decoder) -> None:
        """Answer rows, `num_rows` of them at a time."""
        waiting = deque(rows)
        going: list[int] = []  # the row in each place of the decoder
        while waiting or going:
            free = min(num_rows - len(going), len(waiting))
            # A prompt alone is as dear as a step of all rows, so a few places stay empty until several are.
            if free and (not going or free >= min(REFILL * num_rows, len(waiting))):
                drawing = [waiting.popleft() for _ in range(free)]
                going += drawing
                logits = decoder.admit([self.prompts[row] for row in drawing])
            else:
                drawing = going
                last = torch.tensor([self.tokens[row][-1] for row in going], device=self.device)
                logits = decoder.step(last)
            self._draw(drawing, logits)
            over = [self.finished[row] or len(self.tokens[row]) >= self.rooms[row] for row in going]
            if any(over):
                num = len(going) - sum(over)
                behind = [place for place in range(num, len(going)) if not over[place]]
                places = [behind.pop() if over[place] else place for place in range(num)]
                decoder.keep(places)
                going = [going[place] for place in places]

    def _draw(self, rows: Sequence[int], logits: Tensor) -> None:
        """Draw a token for each row from logits [R, V]."""
        uniforms = [self.uniforms[row][len(self.tokens[row])] for row in rows]
        drawn = draw(logits, torch.tensor(uniforms, dtype=torch.float64), self.sampling)
        for row, token, logp in zip(rows, *(x.tolist() for x in drawn), strict=True):
            self.tokens[row].append(token)
            self.logp[row].append(logp)
        for row, stopped in zip(rows, self._stopped(rows), strict=True):
            self.finished[row] = stopped or self.tokens[row][-1] in self.eos

    def answers(self) -> list[Answer]:
        """Return all of them. Raises ModelError for log-probs that are not finite."""
        if not all(math.isfinite(x) for logp in self.logp for x in logp):
            raise ModelError("the model's log-probs are not finite: its weights are broken or have diverged")
        return [
            Answer(tuple(tokens), tuple(logp), finished)
            for tokens, logp, finished in zip(self.tokens, self.logp, self.finished, strict=True)
        ]

    def _stopped(self, rows: Sequence[int]) -> list[bool]:
        """Return which rows have just completed a stop string."""
        if not self.sampling.stop:
            return [False] * len(rows)
        # A token is at least a byte, so a tail of as many tokens holds the longest stop string. It begins earlier,
        # and what it finds is looked for in the whole answer, because half a character at its start can change
        # how the bytes after it are read.
        longest = max(len(stop.encode()) for stop in self.sampling.stop)
        tails = self._decode([self.tokens[row][-longest - 32 :] for row in rows])
        return [
            self._has_stop(tail) and self._has_stop(self._decode([self.tokens[row]])[0])
            for row, tail in zip(rows, tails, strict=True)
        ]

    def _decode(self, tokens: list[list[int]]) -> list[str]:
        return list(self.tokenizer.batch_decode(tokens, clean_up_tokenization_spaces=False))

    def _has_stop(self, text: str) -> bool:
        return any(stop in text for stop in self.sampling.stop)


def eos_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return what ends an answer: EOS, the chat template's end of a turn, and what the generation config lists."""
    config = getattr(model.generation_config, "eos_token_id", None)
    listed = config if isinstance(config, list) else [config]
    ends = set() if tokenizer.eos_token_id is None else stop_tokens(tokenizer)
    return {token for token in listed if isinstance(token, int)} | ends


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Draw a token from each row of logits [B, V] at uniforms [B]; return tokens [B] and their log-probs [B].

    The log-probs are over the whole vocabulary, at the temperature (at 1 for greedy answers).
    """
    if sampling.temperature not in (0, 1):
        logits = logits / sampling.temperature
    log_probs = logits.log_softmax(-1)
    if sampling.temperature == 0:
        token = log_probs.argmax(-1)
    else:
        dtype = _cdf_dtype(logits.device)
        cumulative = restrict(log_probs.exp(), sampling.top_k, sampling.top_p).cumsum(-1, dtype=dtype)
        # Below 1 by more than rounding can take back: the point stays under the total, and a token of probability 0
        # is never drawn.
        below_one = uniforms.to(logits.device, dtype).clamp_max(1 - torch.finfo(dtype).eps)[:, None]
        token = torch.searchsorted(cumulative, below_one * cumulative[:, -1:], right=True).squeeze(-1)
        token = token.clamp_max(logits.shape[-1] - 1)  # for NaN, which `answers` reports
    return token, log_probs.gather(-1, token[:, None]).squeeze(-1)


def restrict(probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set the probabilities that top-k and then top-p leave out to 0; the rest is not renormalised. probs [B, V]."""
    if not top_k and top_p == 1.0:
        return probs
    likeliest, order = probs.topk(min(top_k or probs.shape[-1], probs.shape[-1]))
    if top_p < 1.0:
        before = likeliest.cumsum(-1) - likeliest  # the first is always kept: nothing is before it
        likeliest = likeliest.where(before < top_p * likeliest.sum(-1, keepdim=True), 0)
    return torch.zeros_like(probs).scatter(-1, order, likeliest)


def _cdf_dtype(device: torch.device) -> torch.dtype:
    """Return fp64 where there is one: in fp32 a sum over 100,000 tokens is off in the fifth digit."""
    return torch.float32 if device.type == "mps" else torch.float64
