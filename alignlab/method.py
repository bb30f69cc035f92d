"""The contract of a method: three stages, and what it may ask of the engine while it runs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, overload

import torch
from pydantic import PositiveInt
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from alignlab.batch import Batch, Record, Sample, collate
from alignlab.config.settings import Settings

RowFormat = Literal["prompt", "completion", "preference", "label", "ranked", "steps"]


@dataclass(frozen=True)
class Follow:
    """How a role that is not trained moves: after every `every` steps, to alpha * role + (1 - alpha) * itself."""

    role: str
    alpha: float = 1.0
    every: int = 1


@dataclass(frozen=True)
class Role:
    """One model of a method. A role that is not trained is frozen or follows; `head` says what comes out of it."""

    train: bool = True
    head: Literal["lm", "scalar"] = "lm"
    follow: Follow | None = None
    trunk: str | None = None
    """The role (named before this one) that it shares all but its head with; both train what they share."""


@dataclass(frozen=True)
class Loss:
    """What the optimizer stage returns for one microbatch. The engine divides, so everything here is a sum.

    `total` is a sum over the method's `per` (tokens, rows or units), float []. A metric is such a sum too, and is
    logged divided by the same count.
    """

    total: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Tabular:
    """A world whose P prompts have A answers each, all of them listed: what an optimum is stated in. All float64."""

    ref_logp: Tensor  # [P, A]  the reference's log-probs, which add up to 1: what it gives anything else is left out
    rewards: Tensor  # [P, A]
    preferences: Tensor  # [P, A, A]  P(the row's answer is better than the column's); both are drawn by ref_logp
    beta: float


Target = Literal["kl_regularized", "preference_probabilities", "likelihood"] | Callable[[Tabular], Tensor]


@dataclass(frozen=True)
class Optimum:
    """What a method promises to reach with the settings it has; `alignlab certify` holds it to that.

    - kl_regularized: the best of E[reward] - beta KL(policy || reference), which is proportional to
      pi_ref(y) exp(reward(y) / beta).
    - preference_probabilities: sigmoid(score - score) is P(the first answer is better).
    - likelihood: the distribution that the rows are drawn from.
    - a function of a `Tabular`: log pi*, float64 [P, A], where theory gives another distribution.
    """

    target: Target
    beta: str | None = None  # the setting that is beta
    why: str = ""  # a sentence for the table, where the target is another one


@dataclass(frozen=True, kw_only=True)
class Rollout(Batch):
    """Prompts followed by sampled answers: `acted` is True on the answer, its stop token included."""

    sample_logp: Tensor  # float [B, T]  log-probs that the sampler drew with; 0 where not acted
    finished: Tensor  # bool [B]  the answer ended by itself (EOS or a stop string), not by its length


class Run(Protocol):
    """All that a method may ask of the engine."""

    tokenizer: PreTrainedTokenizerBase
    rng: torch.Generator  # seeded by the run's seed, the phase and the step: a resumed run draws the same numbers
    state: dict[str, Any]  # small, JSON-like; saved with every checkpoint
    train: bool  # False while the engine evaluates

    @overload
    def logp(self, role: str, batch: Batch, *, temperature: float = 1.0) -> Tensor: ...
    @overload
    def logp(
        self, role: str, batch: Batch, *, temperature: float = 1.0, entropy: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    def logp(self, role: str, batch: Batch, *, temperature: float = 1.0, entropy: bool = False) -> Any:
        """Return log p(token t | tokens < t), float [B, T], 0 where not acted; with `entropy`, also that of the
        distribution it came from, in nats."""  # noqa: D205, D209
        ...

    def value(self, role: str, batch: Batch) -> Tensor:
        """Return a scalar head's output, float [B, T]: position t holds the value of the state before token t."""
        ...

    def sequence_score(self, role: str, batch: Batch) -> Tensor:
        """Return a scalar head's output after each row's last valid token, float [B]: a reward model's score."""
        ...

    def score(self, batch: Batch) -> Tensor:
        """Return the recipe's rewards, weighted and summed, float [B]; each is logged under its name."""
        ...

    def generate(self, role: str, records: Sequence[Record], **settings: Any) -> Rollout:
        """Sample answers to the records' prompts. `settings` are those of `alignlab.generate.Sampling`."""
        ...

    def log(self, **metrics: float) -> None:
        """Log numbers of this step that are not sums over units (they are averaged if logged more than once)."""
        ...


class Method(Protocol):
    """A frozen, validated record of a method's settings, and its three stages."""

    name: ClassVar[str]
    roles: ClassVar[Mapping[str, Role]]  # the first trained role is what the phase exports
    per: ClassVar[Literal["token", "row", "unit"]]  # what the loss is a sum over
    rows: ClassVar[RowFormat]  # what the data stage needs

    @property
    def passes(self) -> int:
        """How often the optimizer stage goes over one batch."""
        ...

    @property
    def minibatches(self) -> int:
        """Into how many optimizer steps a pass is cut."""
        ...

    def data(self, run: Run, records: Sequence[Record]) -> Batch:
        """Make a batch of records."""
        ...

    def reward(self, run: Run, batch: Batch) -> Batch:
        """Add rewards, advantages, reference log-probs, labels. No gradient is recorded here."""
        ...

    def optimize(self, run: Run, batch: Any) -> Loss:
        """Return the loss of one microbatch; never call backward() or step()."""
        ...

    def end_passes(self, metrics: Mapping[str, float]) -> bool:
        """Look at the metrics of one optimizer step; True ends the passes over this batch."""
        ...

    @property
    def optimum(self) -> Optimum | None:
        """What the method reaches in the end, by theory and with these settings; None: nothing that is known."""
        ...

    def warnings(self) -> list[str]:
        """Return what is allowed in these settings, but probably not meant: a sentence each, said before a run."""
        ...


class MethodSettings(Settings):
    """The base of methods: settings, and the stages that most methods share.

    A method sets `name`, `roles`, `per` and `rows`, and writes `optimize`; `data` and `reward` where it needs more than
    the records as they are.
    """

    name: ClassVar[str]
    roles: ClassVar[Mapping[str, Role]]
    per: ClassVar[Literal["token", "row", "unit"]]
    rows: ClassVar[RowFormat]

    passes: PositiveInt = 1
    """How often the optimizer stage goes over one batch."""
    minibatches: PositiveInt = 1
    """Into how many optimizer steps a pass is cut."""

    def data(self, run: Run, records: Sequence[Record]) -> Batch:
        """Collate the records: a row for each answer, and a unit for each record.

        A preference's rows are 2i (chosen) and 2i + 1 (rejected), those of a ranked list in the order of its
        completions; where prompts are wanted, the row is the prompt.
        """
        rows: list[tuple[Sample, int, Record]] = [
            (sample, unit, record)
            for unit, record in enumerate(records)
            for name, sample in record.samples.items()
            if (name == "prompt") == (self.rows == "prompt")
        ]
        return collate(
            [sample for sample, _, _ in rows],
            unit=[unit for _, unit, _ in rows],
            records=[record for _, _, record in rows],
        )

    def reward(self, run: Run, batch: Any) -> Batch:
        """Add nothing."""
        unchanged: Batch = batch
        return unchanged

    def optimize(self, run: Run, batch: Any) -> Loss:
        """Return the loss of one microbatch."""
        raise NotImplementedError(f"method {self.name!r} has no optimize()")

    def end_passes(self, metrics: Mapping[str, float]) -> bool:
        """Go on with the passes."""
        return False

    @property
    def optimum(self) -> Optimum | None:
        """Promise nothing."""
        return None

    def warnings(self) -> list[str]:
        """Warn of nothing."""
        return []
