"""The engine's side of `Run`: everything that a method may ask for, on the models of its roles."""

import functools
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab import ops
from alignlab.batch import Batch, Record, Sample, collate, pad
from alignlab.engine.microbatch import by_length
from alignlab.engine.ranks import Ranks
from alignlab.engine.reference_cache import ReferenceCache
from alignlab.generate import Generator, Sampling
from alignlab.method import Rollout
from alignlab.models import hidden_states, is_checkpointing, logits_at, scalar, sequence_scores
from alignlab.ops.reference.wide import wide
from alignlab.rewards import Rewards


class EngineRun:
    """One phase's models, tokenizer, rewards and sampler, as a method sees them."""

    def __init__(
        self,
        models: Mapping[str, PreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
        phase: str = "",
        rewards: Rewards | None = None,
        generator: Generator | None = None,
        microbatch_tokens: int = 16384,
        precision: str = "fp32",
        ranks: Ranks | None = None,
        reference_cache: ReferenceCache | None = None,
    ) -> None:
        """Start with an empty state, at step 0."""
        self.models = models
        self.tokenizer = tokenizer
        self.rewards = rewards
        self.generator = generator
        self.microbatch_tokens = microbatch_tokens
        self.precision = precision
        self.reference_cache = reference_cache
        self.seed, self.phase = seed, phase
        self.rng = torch.Generator()
        self.state: dict[str, Any] = {}
        self.train = True
        self.ranks = ranks or Ranks()
        self._shared = False
        self.device = next(iter(models.values())).device
        self._logged: dict[str, list[float]] = {}
        self.begin(0)

    def begin(self, step: int, *, train: bool = True) -> None:
        """Seed `rng` for a step. Nothing of it is saved: a resumed run seeds the same step in the same way.

        The process's own generators are seeded too: rewards and plugins of others draw from them.
        """
        self.train = train
        # torch reads the lower 32 bits only: a digest spreads what differs over them.
        digest = hashlib.sha256(f"{self.seed} {self.phase} {step} {train}".encode()).digest()
        seed = int.from_bytes(digest[:4], "little")
        for generator_seed in (self.rng.manual_seed, torch.manual_seed, np.random.seed, random.seed):
            generator_seed(seed)
        self._logged = {}

    @contextmanager
    def shared(self, together: bool = True) -> Iterator[None]:
        """Deal the work out over ranks while all of them ask for the same: in the data stage and the reward stage."""
        before, self._shared = self._shared, together
        try:
            yield
        finally:
            self._shared = before

    @property
    def _sharers(self) -> Ranks:
        """Return the ranks that what is asked for now is dealt out over."""
        return self.ranks if self._shared else Ranks()

    def log(self, **metrics: float) -> None:
        """Note numbers of this step."""
        for name, value in metrics.items():
            self._logged.setdefault(name, []).append(float(value))

    def logged(self) -> dict[str, float]:
        """Return what was logged since the last call, averaged by name."""
        logged, self._logged = self._logged, {}
        return {name: sum(values) / len(values) for name, values in logged.items()}

    def logp(self, role: str, batch: Batch, *, temperature: float = 1.0, entropy: bool = False) -> Any:
        """Return log p(token t | tokens < t), float [B, T], 0 where not acted; and the entropy there if asked for."""

        def compute(part: Batch) -> Tensor:
            predicts = part.acted.roll(-1, 1)  # bool [B, T]  position t - 1 predicts token t; token 0 is never acted
            logits = logits_at(self._ready(role), part, predicts)  # float [N, V]
            # Nothing else reads these logits, so their gradient takes their place: fresh memory costs more than it.
            found = ops.token_logp(
                logits,
                part.tokens[part.acted],
                temperature=temperature,
                entropy=entropy,
                inplace_backward=logits.requires_grad,
            )
            columns = torch.stack(found if isinstance(found, tuple) else (found,))  # float [1 or 2, N]
            out = columns.new_zeros(len(columns), *part.tokens.shape)
            out[:, part.acted] = columns
            return out.unbind(0)[0] if not entropy else out.transpose(0, 1)  # [B, T] or [B, 2, T]

        cache = self.reference_cache
        sampled = isinstance(batch, Rollout)  # whose rows do not come back
        if cache is not None and role in cache.roles and temperature == 1 and not (entropy or sampled):
            return cache.logp(role, batch, lambda part: self._in_parts(part, compute))
        result = self._in_parts(batch, compute)
        return (result[:, 0], result[:, 1]) if entropy else result

    def kl(self, role: str, other: str, batch: Batch, *, temperature: float = 1.0) -> Tensor:
        """Return KL(role || other) of the next-token distributions, exact over the vocabulary, float [B, T]."""

        def compute(part: Batch) -> Tensor:
            predicts = part.acted.roll(-1, 1)
            logits = [logits_at(self._ready(name), part, predicts) for name in (role, other)]
            found = ops.kl_divergence(*logits, temperature=temperature)
            out = found.new_zeros(part.tokens.shape)
            out[part.acted] = found
            return out

        return self._in_parts(batch, compute)

    def value(self, role: str, batch: Batch) -> Tensor:
        """Return the value of the state before each token, float [B, T]; 0 for the first."""

        def compute(part: Batch) -> Tensor:
            model = self._ready(role)
            after = wide(scalar(model, hidden_states(model, part)))  # float [B, T]  having seen token t
            return torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], 1)

        return self._in_parts(batch, compute)

    def sequence_score(self, role: str, batch: Batch) -> Tensor:
        """Return the scalar head's output after each row's last valid token, float [B]."""

        def compute(part: Batch) -> Tensor:
            model = self._ready(role)
            return sequence_scores(model, part)

        return self._in_parts(batch, compute)

    def score(self, batch: Batch) -> Tensor:
        """Return the recipe's rewards, weighted and summed, float [B]."""
        if self.rewards is None:
            raise ValueError("this phase has no reward")
        total, components = self._sharers.once(functools.partial(self._score, self.rewards, batch))
        self.log(**{f"reward/{name}": float(values.nanmean()) for name, values in components.items()})
        return total.to(self.device)

    def _score(self, rewards: Rewards, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Call the rewards, on one rank: an answer is paid for once, and what a reward asks for is not dealt out."""
        with self.shared(False):
            total, components = rewards(self, batch)
        return total.cpu(), {name: values.cpu() for name, values in components.items()}

    def generate(self, role: str, records: Sequence[Record], **settings: Any) -> Rollout:
        """Sample answers to the records' prompts, `num_samples` each; the answers to one prompt are a unit."""
        assert self.generator is not None
        sampling = Sampling(**settings)
        rows = [(i, record) for i, record in enumerate(records) for _ in range(sampling.num_samples)]
        seeds = torch.randint(2**62, (len(rows),), generator=self.rng).tolist()
        prompts = [record.samples["prompt"].tokens for _, record in rows]
        with torch.no_grad(), self._autocast():
            model = self.models[role].eval()
            mine = self.generator(
                model, self.tokenizer, self._sharers.share(prompts), sampling, self._sharers.share(seeds)
            )
        answers = self._sharers.merge(mine, len(rows))
        samples = [
            Sample((*prompt, *a.tokens), (False,) * len(prompt) + (True,) * len(a.tokens))
            for prompt, a in zip(prompts, answers, strict=True)
        ]
        batch = collate(samples, unit=[i for i, _ in rows], records=[record for _, record in rows])
        logp = pad([[0.0] * len(p) + list(a.logp) for p, a in zip(prompts, answers, strict=True)], 0.0, torch.float32)
        finished = torch.tensor([a.finished for a in answers], dtype=torch.bool)
        return Rollout(**vars(batch), sample_logp=logp, finished=finished).to(self.device)

    def _in_parts(self, batch: Batch, compute: Callable[[Batch], Tensor]) -> Tensor:
        """Compute on rows of about one length at a time: padding costs as much as tokens do.

        Without gradients this also keeps to the token budget; with them, the batch is a microbatch already.
        """
        assert len(batch), "an empty batch"
        found: list[Tensor] = []
        places: list[Tensor] = []
        with self._autocast():
            parts = list(by_length(batch, self.microbatch_tokens, self._sharers.size))
            mine = self._sharers.share(parts)
            for part, rows in mine or parts[:1]:  # a rank without a share has to know the shape
                values = compute(part)
                if values.dim() > 1:  # put the token columns back to where `select` cut them from
                    first = int(batch.valid[rows].any(0).long().argmax())
                    pads = (first, batch.tokens.shape[1] - first - values.shape[-1])
                    values = torch.nn.functional.pad(values, pads)
                found.append(values)
                places.append(rows)
        values, rows = torch.cat(found), torch.cat(places)
        if self._sharers.size == 1:
            return values[rows.argsort()]
        out = values.new_zeros(len(batch), *values.shape[1:])
        if mine:
            out[rows] = values
        return self._sharers.add(out)

    def _ready(self, role: str) -> PreTrainedModel:
        """Return a role's model; dropout is 0 in every mode, and only checkpointing asks for `train()`."""
        model = self.models[role]
        model.train(is_checkpointing(model) and torch.is_grad_enabled())
        return model

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
