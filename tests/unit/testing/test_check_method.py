"""Each check of check_method fails on a method that breaks its promise; on ours all pass (tests/conformance)."""

import os
import random
from dataclasses import dataclass, replace

import pytest
import torch
from pydantic import field_validator

from alignlab import Batch, Loss, MethodSettings, Role, Rollout
from alignlab.testing import METHOD_CHECKS, BrokenPromise, check_method
from alignlab.testing.promise import NotCheckable


class Likelihood(MethodSettings):
    """Keeps every promise, and is installed by nobody."""

    name = "likelihood"
    roles = {"policy": Role()}
    per = "token"
    rows = "completion"

    def optimize(self, run, batch):
        return Loss(-run.logp("policy", batch).sum(), {"tokens": batch.acted.sum()})


class Unlikely(MethodSettings):
    """Learns from labels: what is labelled true becomes likelier, what is labelled false less so."""

    name = "unlikely"
    roles = {"policy": Role()}
    per = "row"
    rows = "label"

    def optimize(self, run, batch):
        signs = torch.tensor([1.0 if record.columns["label"] else -1.0 for record in batch.records])
        return Loss(-(signs * run.logp("policy", batch).sum(1) / batch.acted.sum(1)).sum())


class Doubling(Likelihood):
    beta: float = 1.0

    @field_validator("beta")
    @classmethod
    def _double(cls, value):
        return 2 * value


class Clashing(Likelihood):
    lr: float = 1.0


class InPlace(Likelihood):
    def optimize(self, run, batch):
        batch.tokens.clamp_(max=7)
        return super().optimize(run, batch)


class InPlaceBehindTorchsBack(Likelihood):
    def reward(self, run, batch):
        batch.acted.data[:, -3:] = False
        return batch


class RecordsInPlace(Likelihood):
    def data(self, run, records):
        for record in records:
            record.columns["seen"] = True
        return super().data(run, records)


class NotANumber(Likelihood):
    def optimize(self, run, batch):
        return Loss(run.logp("policy", batch).sum() * float("nan"))


class Attached(Likelihood):
    def optimize(self, run, batch):
        total = -run.logp("policy", batch).sum()
        return Loss(total, {"nll": total})


@dataclass(frozen=True, kw_only=True)
class WithMean(Batch):
    mean: torch.Tensor


class OneNumber(Likelihood):
    def reward(self, run, batch):
        return WithMean(**vars(batch), mean=batch.lengths.float().mean())


class OnPadding(Likelihood):
    def data(self, run, records):
        batch = super().data(run, records)
        return replace(batch, acted=torch.ones_like(batch.acted))


class Backward(Likelihood):
    def optimize(self, run, batch):
        loss = super().optimize(run, batch)
        loss.total.backward(retain_graph=True)
        return loss


class Mean(Likelihood):
    def optimize(self, run, batch):
        return Loss(-run.logp("policy", batch)[batch.acted].mean())


class MeanMetric(Likelihood):
    def optimize(self, run, batch):
        lengths = batch.acted.sum(1).float()
        return Loss(super().optimize(run, batch).total, {"length": lengths.mean()})


class PerMicrobatch(Likelihood):
    def optimize(self, run, batch):
        logp = run.logp("policy", batch).sum(1)
        return Loss(-(logp - logp.detach().mean()).square().sum())


class Width(Likelihood):
    def optimize(self, run, batch):
        return Loss(-run.logp("policy", batch).sum() / batch.tokens.shape[1])


class ByPlace(Likelihood):
    def optimize(self, run, batch):
        return Loss(-(run.logp("policy", batch).sum(1) * torch.arange(1, len(batch) + 1)).sum())


class Everywhere(Likelihood):
    roles = {"reward": Role(head="scalar")}

    def optimize(self, run, batch):
        return Loss((run.value("reward", batch) - 1).square().where(batch.valid, 0.0).sum())


class Idle(Likelihood):
    roles = {"policy": Role(), "spare": Role()}


class WritesToReference(Likelihood):
    roles = {"policy": Role(), "ref": Role(train=False)}

    def optimize(self, run, batch):
        for parameter in run.models["ref"].parameters():
            parameter.data += 1
        return super().optimize(run, batch)


class Unseeded(Likelihood):
    def optimize(self, run, batch):
        return Loss(super().optimize(run, batch).total * random.SystemRandom().random())


class OneAnswer(Likelihood):
    rows = "prompt"

    def data(self, run, records):
        return run.generate("policy", records, max_new_tokens=4, temperature=0)


class NoReward(OneAnswer):
    def data(self, run, records):
        return run.generate("policy", records, max_new_tokens=4)


class OnlyFull(Likelihood):
    def optimize(self, run, batch):
        loss = super().optimize(run, batch)
        return loss if run.precision == "fp32" else Loss(loss.total * float("inf"))


class TurnedSign(Likelihood):
    def optimize(self, run, batch):
        return Loss(run.logp("policy", batch).sum())


SEEN = []


class Remembering(Likelihood):
    def optimize(self, run, batch):
        SEEN.append(1)
        return Loss(super().optimize(run, batch).total * len(SEEN))


class ByRank(Likelihood):
    def optimize(self, run, batch):
        return Loss(super().optimize(run, batch).total * (1 + int(os.environ.get("RANK", "0"))))


class FailsOnRank1(Likelihood):
    def optimize(self, run, batch):
        if os.environ.get("RANK") == "1":
            raise ValueError("not here")
        return super().optimize(run, batch)


BROKEN = [
    ("settings", Doubling, "`beta` was 2.0 and is 4.0"),
    ("settings", Clashing, "the engine has lr too"),
    ("stages", InPlace, "changes its batch in place: tokens, in its optimize()"),
    ("stages", InPlaceBehindTorchsBack, "reward() changed acted in place"),
    ("stages", RecordsInPlace, "the columns of world demonstrations, row"),
    ("stages", NotANumber, "total is nan"),
    ("stages", Attached, "nll of the Loss hold the graph"),
    ("stages", OneNumber, "`mean` has the shape [] in a batch of 8 rows, after reward()"),
    ("stages", OnPadding, "`acted` is True on padding"),
    ("stages", Backward, "calls backward() or step() in its optimize()"),
    ("sums", Mean, "it is a mean over tokens: use .sum()"),
    ("sums", MeanMetric, "the metric 'length' is a sum over tokens, never a mean"),
    ("sums", MeanMetric, "it is a mean over rows"),
    ("microbatches", Mean, "the gradient is the same for every size of microbatches"),
    ("microbatches", PerMicrobatch, "in 8 microbatches, the gradient's norm is"),
    ("padding", Width, "with 0 columns of padding on the left and 7 on the right"),
    ("order", ByPlace, "with the units in another order"),
    ("acted", Everywhere, "role 'reward' gets one at the positions [0, 1, 2"),
    ("frozen", Idle, "role 'spare' is trained, and a step leaves it as it is"),
    ("frozen", WritesToReference, "role 'ref' is frozen, and a step has changed it"),
    ("determinism", Unseeded, "two runs with one seed have other gradients"),
    ("determinism", OneAnswer, "seeds 0 and 1 sample the same"),
    ("bf16", OnlyFull, "the loss is inf and the norm of its gradient"),
    ("learns", TurnedSign, "the log-prob of the shown answers, in nats a token, goes up"),
    ("learns", NoReward, "reward() does not call run.score(batch)"),
    ("resume", Remembering, "killed after step 3, last checkpoint at step 2"),
    ("ranks", ByRank, "on two ranks, and"),
    ("ranks", FailsOnRank1, "optimizer_stage of plugin method 'likelihood' of no distribution"),
]


def broken(method, settings={}, **more):  # noqa: B006 - it is not changed
    with pytest.raises(BrokenPromise) as raised:
        check_method(method, settings, **more)
    return raised.value


@pytest.mark.parametrize(("check", "method", "said"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_method_that_breaks_a_promise_fails_the_check_that_says_so(check, method, said):
    assert said in str(broken(method, checks=[check]))


def test_every_check_has_a_method_that_breaks_it():
    assert {check for check, _, _ in BROKEN} == set(METHOD_CHECKS)


def test_the_error_says_who_breaks_what_with_numbers_and_the_likely_cause():
    lines = str(broken(Mean)).splitlines()
    assert lines[0] == (
        f"method 'likelihood' ({__name__}.Mean) breaks a promise (check 'sums'): "
        "the loss is a sum over tokens, never a mean"
    )
    assert lines[1].startswith("  found: 5.") and " for the whole batch, and 5." in lines[1]
    assert (
        lines[2] == "  likely cause: it is a mean over tokens: use .sum(), and the engine divides once, by all tokens"
    )


def test_a_class_that_nobody_has_installed_passes_if_it_keeps_all_promises():
    check_method(Likelihood)


def test_a_method_of_labelled_rows_can_be_checked():
    check_method(Unlikely, checks=[check for check in METHOD_CHECKS if check != "ranks"])


def test_settings_that_are_given_reach_the_method():
    assert "label_smoothing" in str(broken("dpo", {"loss_type": "exo_pair"}, checks=["settings"]))


def test_a_check_that_there_is_not_names_the_nearest():
    with pytest.raises(ValueError, match="there is no check 'microbatch'; did you mean 'microbatches'"):
        check_method(Likelihood, checks=["microbatch"])


def test_a_name_that_nobody_registers_names_the_nearest():
    assert "there is no method 'dpoo'" in str(broken("dpoo"))
    assert "did you mean 'dpo'?" in str(broken("dpoo"))


def test_a_class_in_a_function_is_told_apart_from_a_broken_one():
    class Inner(Likelihood):
        pass

    check_method(Inner, checks=["sums", "resume"])
    with pytest.raises(NotCheckable, match="stands in a function, where a second process cannot find it"):
        check_method(Inner, checks=["ranks"])


class Reinforce(OneAnswer):
    """Samples, and has neither critic nor reference: what is rewarded above the batch's mean becomes likelier."""

    def data(self, run, records):
        return run.generate("policy", records, max_new_tokens=8)

    def reward(self, run, batch):
        score = run.score(batch)
        return Rewarded(**vars(batch), advantage=score - score.mean())

    def optimize(self, run, batch):
        return Loss(-(run.logp("policy", batch) * batch.advantage.unsqueeze(1)).sum())


@dataclass(frozen=True, kw_only=True)
class Rewarded(Rollout):
    advantage: torch.Tensor


class Punished(Reinforce):
    def reward(self, run, batch):
        rewarded = super().reward(run, batch)
        return replace(rewarded, advantage=-rewarded.advantage)


def test_a_method_that_samples_passes_and_one_that_flees_its_reward_does_not():
    check_method(Reinforce, checks=[check for check in METHOD_CHECKS if check != "ranks"])
    assert "the reward of the answers goes up" in str(broken(Punished, checks=["learns"]))
