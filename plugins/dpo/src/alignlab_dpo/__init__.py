"""Direct preference optimization (Rafailov et al., 2023, arXiv 2305.18290), and its relatives."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, final

import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from typing_extensions import Self

from alignlab import Batch, DataError, Follow, Loss, MethodSettings, Optimum, Record, Role, Run, hookimpl
from alignlab.losses import DPOLoss, aot_match, dpo
from alignlab_dpo.optimum import optimum_of

AOT: tuple[Literal["aot", "aot_unpaired"], ...] = ("aot", "aot_unpaired")
OneOrMore = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)


@dataclass(frozen=True, kw_only=True)
class Pairs(Batch):
    """Rows 2i (chosen) and 2i + 1 (rejected), with what the losses need beside the policy; float [B]."""

    ref_logp: Tensor  # the reference's, summed over the answer; 0 without a reference
    probability: Tensor  # that chosen is the better one
    aot: Tensor  # what the row is compared with among the whole batch; 0 where the loss is another
    aot_unpaired: Tensor


@final
class DPO(MethodSettings):
    """Direct preference optimization, by `loss_type`; README.md has the settings and where they come from."""

    name = "dpo"
    per = "unit"  # one unit is a pair
    rows = "preference"

    beta: PositiveFloat = 0.1
    loss_type: Annotated[tuple[DPOLoss, ...], OneOrMore, Field(min_length=1)] = ("sigmoid",)
    """One type, or a list of types whose losses are added."""
    loss_weights: tuple[NonNegativeFloat, ...] | None = None
    """A weight for each type of a list; 1 each if it is not given."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The share of labels believed to be wrong."""
    soft_labels: bool = True
    """Use the rows' column `probability`, that chosen is the better one, where there is one."""
    length_normalize: bool = False
    """Divide every log-prob by its answer's tokens; sigmoid_norm and simpo always do."""
    sft_coef: NonNegativeFloat = 0.0
    """Weight of -log p(chosen) a token."""
    simpo_gamma: NonNegativeFloat = 0.5
    discopop_tau: Annotated[float, Field(gt=0, le=1)] = 0.05
    ref_sync_steps: PositiveInt | None = None
    """Steps after which the reference moves towards the policy, again and again; never if it is not given."""
    ref_sync_alpha: Annotated[float, Field(gt=0, le=1)] = 0.6
    """How far it moves; 1 is to the policy itself."""

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"`loss_weights` has {len(self.loss_weights)} for {len(self.loss_type)} of `loss_type`")
        if "exo_pair" in self.loss_type and self.label_smoothing == 0:
            raise ValueError("exo_pair wants a `label_smoothing` above 0, such as 1e-3")
        if self.ref_sync_steps is not None and "ref" not in self.roles:
            raise ValueError("simpo has no reference, so `ref_sync_steps` has nothing to move")
        return self

    @property
    def roles(self) -> Mapping[str, Role]:  # type: ignore[override]  # by the settings here, a constant in others
        """The policy, and the reference unless the loss does without."""
        if set(self.loss_type) == {"simpo"}:
            return {"policy": Role()}
        follow = Follow("policy", self.ref_sync_alpha, self.ref_sync_steps) if self.ref_sync_steps else None
        return {"policy": Role(), "ref": Role(train=False, follow=follow)}

    @property
    def optimum(self) -> Optimum | None:
        """Where one loss alone ends, at soft labels and with the reference that it began with."""
        plain = self.soft_labels and not (self.length_normalize or self.sft_coef or self.ref_sync_steps)
        if len(self.loss_type) > 1 or not plain:
            return None
        return optimum_of(self.loss_type[0], self.beta, self.label_smoothing)

    def reward(self, run: Run, batch: Batch) -> Pairs:
        """Add the reference's log-probs, soft labels, and what depends on more than a pair."""
        zeros = torch.zeros(len(batch), device=batch.tokens.device)
        ref_logp = run.logp("ref", batch).sum(1) if "ref" in self.roles else zeros
        probability = zeros.new_tensor([self._probability(r) for r in batch.records]) if batch.records else zeros + 1
        pairs = Pairs(**vars(batch), ref_logp=ref_logp, probability=probability, aot=zeros, aot_unpaired=zeros)
        if set(self.loss_type).isdisjoint({*AOT, "bco_pair"}):
            return pairs
        logp = run.logp("policy", batch).sum(1)  # as the first pass over the batch will find it
        for name in set(AOT) & set(self.loss_type):
            matched = aot_match(*self._logps(logp, pairs), loss_type=name, lengths=self._lengths(pairs, name))
            changed: dict[str, Any] = {name: matched.flatten()}
            pairs = replace(pairs, **changed)
        if "bco_pair" in self.loss_type and run.train:
            rewards = self._rewards(logp, pairs, "bco_pair")
            mean, num = run.state.get("bco", (0.0, 0))
            num += len(rewards)
            run.state["bco"] = [mean + float((rewards - mean).sum()) / num, num]
        return pairs

    def optimize(self, run: Run, batch: Pairs) -> Loss:
        """Return the loss summed over pairs."""
        logp = run.logp("policy", batch).sum(1)  # float [B]
        losses = [self._loss(run, logp, batch, name).sum() for name in self.loss_type]
        weights = self.loss_weights or (1.0,) * len(losses)
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        chosen, rejected = self._rewards(logp.detach(), batch, self.loss_type[0]).view(-1, 2).T
        metrics = {
            "accuracy": (chosen > rejected).sum() + 0.5 * (chosen == rejected).sum(),
            "margin": (chosen - rejected).sum(),
            "chosen_reward": chosen.sum(),
            "rejected_reward": rejected.sum(),
            "chosen_logp": logp[0::2].sum(),
            "rejected_logp": logp[1::2].sum(),
        }
        if self.sft_coef:
            metrics["sft_loss"] = -(logp / batch.acted.sum(1))[0::2].sum()
            total = total + self.sft_coef * metrics["sft_loss"]
        if len(losses) > 1:
            metrics |= {f"{name}_loss": loss for name, loss in zip(self.loss_type, losses, strict=True)}
        return Loss(total, {name: value.detach() for name, value in metrics.items()})

    def _loss(self, run: Run, logp: Tensor, batch: Pairs, name: DPOLoss) -> Tensor:
        """Return one loss of each pair, float [B / 2]."""
        aot = name in AOT
        return dpo(
            *self._logps(logp, batch),
            beta=self.beta,
            loss_type=name,
            label_smoothing=self.label_smoothing,
            probability=None if aot else batch.probability[0::2],
            lengths=self._lengths(batch, name),
            shift=run.state.get("bco", (0.0, 0))[0],
            matched=getattr(batch, name).view(-1, 2) if aot else None,
            gamma=self.simpo_gamma,
            tau=self.discopop_tau,
        )

    def _logps(self, logp: Tensor, batch: Pairs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return logp[0::2], logp[1::2], batch.ref_logp[0::2], batch.ref_logp[1::2]

    def _lengths(self, batch: Batch, name: DPOLoss) -> tuple[Tensor, Tensor] | None:
        lengths = batch.acted.sum(1)
        wanted = self.length_normalize or name in ("sigmoid_norm", "simpo")
        return (lengths[0::2], lengths[1::2]) if wanted else None

    def _rewards(self, logp: Tensor, batch: Pairs, name: DPOLoss) -> Tensor:
        """Return the implicit rewards that a loss compares, float [B]."""
        ratio = logp if name == "simpo" else logp - batch.ref_logp
        return self.beta * (ratio if self._lengths(batch, name) is None else ratio / batch.acted.sum(1))

    def _probability(self, record: Record) -> float:
        found = float(record.columns.get("probability", 1)) if self.soft_labels else 1.0
        if found != 1 and not set(AOT).isdisjoint(self.loss_type):
            what, do = f"`probability` is {found:g}, and aot has no soft labels", "set `soft_labels: false`"
            raise DataError(what, where=record.where, do=do)
        return found


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `dpo`."""
    return [DPO]
