"""Sampling: answers to prompts, with the log-probs they were drawn with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from alignlab.config.settings import Settings
from alignlab.data import stop_tokens
from alignlab.errors import DataError, ModelError
from alignlab.models import config_context


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
    any batch, up to rounding at the edges of the CDF's steps. Finished rows leave the batch.
    """

    name = "torch"

    def __init__(self, max_cached_tokens: int = 131072) -> None:
        """Answer as many prompts together as the cache has room for, padding and answers included."""
        self.max_cached_tokens = max_cached_tokens

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
        answers: dict[int, Answer] = {}
        was_training = model.training
        model.eval()  # with gradient checkpointing, train mode would drop the cache
        try:
            for rows in self._chunks(prompts, rooms):
                chunk = _Chunk(
                    model,
                    tokenizer,
                    sampling,
                    [prompts[row] for row in rows],
                    [rooms[row] for row in rows],
                    [seeds[row] for row in rows],
                )
                answers.update(zip(rows, chunk.run(), strict=True))
        finally:
            model.train(was_training)
        return [answers[row] for row in range(len(prompts))]

    def _chunks(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int]) -> Iterator[list[int]]:
        """Yield rows, the longest prompts first, as many at a time as fit into the cache."""
        chunk: list[int] = []
        for row in sorted(range(len(prompts)), key=lambda row: -len(prompts[row])):
            # The first of a chunk has the longest prompt, and the last the most room.
            if chunk and (len(chunk) + 1) * (len(prompts[chunk[0]]) + rooms[row]) > self.max_cached_tokens:
                yield chunk
                chunk = []
            chunk.append(row)
        if chunk:
            yield chunk


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


class _Chunk:
    """Rows that are answered together: R of them in the batch, of the N that it began with."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        prompts: list[Sequence[int]],
        rooms: list[int],
        seeds: list[int],
    ) -> None:
        """Pad the prompts on the left, and draw every row's random numbers."""
        self.model, self.tokenizer, self.sampling = model, tokenizer, sampling
        self.num_steps = max(rooms)
        device = model.device
        self.width = max(len(prompt) for prompt in prompts)
        pads = [self.width - len(prompt) for prompt in prompts]
        self.tokens = torch.tensor([[0] * n + list(p) for n, p in zip(pads, prompts, strict=True)], device=device)
        columns = torch.arange(self.width + self.num_steps, device=device)
        self.mask = (columns >= torch.tensor(pads, device=device)[:, None]).long()  # the answers' columns included
        self.rooms = torch.tensor(rooms, device=device)
        # numpy's generator takes seeds of any size; torch's CPU generator looks at their lower 32 bits only.
        uniforms = np.stack([np.random.default_rng(seed).random(self.num_steps) for seed in seeds])
        self.uniforms = torch.from_numpy(uniforms).to(device, _cdf_dtype(device))
        self.eos = torch.tensor(sorted(eos_tokens(model, tokenizer)), dtype=torch.int64, device=device)

    def run(self) -> list[Answer]:
        """Draw a token for every row until all have ended."""
        rows = torch.arange(len(self.tokens), device=self.tokens.device)  # int64 [R]
        drawn = torch.zeros(len(rows), self.num_steps, dtype=torch.int64, device=rows.device)
        logp = torch.zeros(len(rows), self.num_steps, device=rows.device)
        lengths = torch.zeros_like(rows)
        finished = torch.zeros_like(rows, dtype=torch.bool)
        going = torch.ones_like(finished)  # bool [R]
        cache = DynamicCache(config=self.model.config)
        # A row that has reached the context's end stays until enough others have ended: it has no positions beyond.
        positions = (self.mask.cumsum(1) - 1).clamp(0, config_context(self.model.config) - 1)
        inputs, mask = self.tokens, self.mask
        for step in range(self.num_steps):
            end = self.width + step
            logits = self._logits(inputs, positions[:, end - inputs.shape[1] : end], mask[:, :end], cache)
            token, drawn_logp = draw(logits, self.uniforms[rows, step], self.sampling)
            drawn[rows, step], logp[rows, step] = token, drawn_logp
            ended = torch.isin(token, self.eos) | self._stopped(drawn[rows, : step + 1])
            over = going & (ended | (step + 1 >= self.rooms[rows]))
            lengths[rows] = torch.where(over, step + 1, lengths[rows])
            finished[rows] |= over & ended
            going = going & ~over
            num_going = int(going.sum())
            if not num_going:
                break
            if num_going <= 0.9 * len(rows):  # a cache is as dear to copy as a step is, so not for every row
                keep = going.nonzero().flatten()
                cache.reorder_cache(keep)  # type: ignore[arg-type]  # an int64 tensor is a LongTensor
                rows, going, token, positions, mask = (x[keep] for x in (rows, going, token, positions, mask))
            inputs = token[:, None]
        if not bool(logp.isfinite().all()):
            raise ModelError("the model's log-probs are not finite: its weights are broken or have diverged")
        return [
            Answer(tuple(t[:n]), tuple(p[:n]), f)
            for t, p, n, f in zip(drawn.tolist(), logp.tolist(), lengths.tolist(), finished.tolist(), strict=True)
        ]

    def _logits(self, inputs: Tensor, positions: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        """Return the logits after the last column, fp32 [R, V]."""
        output = self.model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if getattr(output, "past_key_values", None) is not cache:  # a state-space model, say
            raise ModelError(
                f"{type(self.model).__name__} keeps no cache of keys and values, which this sampler needs",
                do="use another model, or a generator plugin that samples from this one",
            )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _stopped(self, drawn: Tensor) -> Tensor:
        """Return which rows have just completed a stop string, bool [R]."""
        found = torch.zeros(len(drawn), dtype=torch.bool)
        if self.sampling.stop:
            # A token is at least a byte, so a tail of as many tokens holds the longest stop string. It begins earlier,
            # and what it finds is looked for in the whole answer, because half a character at its start can change
            # how the bytes after it are read.
            longest = max(len(stop.encode()) for stop in self.sampling.stop)
            for row, text in enumerate(self._decode(drawn[:, -longest - 32 :])):
                found[row] = self._has_stop(text) and self._has_stop(self._decode(drawn[row : row + 1])[0])
        return found.to(drawn.device)

    def _decode(self, tokens: Tensor) -> list[str]:
        return list(self.tokenizer.batch_decode(tokens.tolist(), clean_up_tokenization_spaces=False))

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
    log_probs = (logits / (sampling.temperature or 1.0)).log_softmax(-1)
    if sampling.temperature == 0:
        token = log_probs.argmax(-1)
    else:
        dtype = _cdf_dtype(logits.device)
        cumulative = restrict(log_probs.exp(), sampling.top_k, sampling.top_p).to(dtype).cumsum(-1)
        # Below 1 by more than rounding can take back: the point stays under the total, and a token of probability 0
        # is never drawn.
        below_one = uniforms.clamp_max(1 - torch.finfo(dtype).eps)[:, None]
        token = torch.searchsorted(cumulative, below_one * cumulative[:, -1:], right=True).squeeze(-1)
        token = token.clamp_max(logits.shape[-1] - 1)  # for NaN, which run() reports
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
