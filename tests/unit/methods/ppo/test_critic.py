"""PPO.md, rows 13 to 16, 19 and 29: values, advantages, and the critic that they come from."""

from dataclasses import replace

import pytest
import torch
import toy
from pydantic import ValidationError
from safetensors.torch import load_file

from alignlab.config.recipe import ModelSettings, OptimizerSettings
from alignlab.engine.checkpoint import Progress, load_checkpoint, save_checkpoint
from alignlab.engine.optim import AdamW, parameter_groups
from alignlab.engine.roles import exported_role, load_roles
from alignlab.models import hidden_states, scalar


def test_row_13_the_value_of_a_token_is_that_of_the_state_before_it(scored):
    _, run, batch, _ = scored(zero_critic=False)
    with torch.no_grad():
        after = scalar(run.models["critic"], hidden_states(run.models["critic"], batch))
        values = run.value("critic", batch)
    valid = batch.valid[:, 1:]  # padding has no value
    torch.testing.assert_close(values[:, 1:][valid], after[:, :-1][valid])
    torch.testing.assert_close(batch.values, values.where(batch.acted, 0.0))


def settings_for(base):
    return ModelSettings(path=str(base), device="cpu")


def test_row_14_a_critic_starts_from_the_reward_model_else_the_policy_with_a_head_of_zeros(base, tmp_path):
    reward = toy.run_for(base, toy.method("reward_model")).models["reward"]  # its weights are not the base's
    reward.save_pretrained(tmp_path)
    assert reward.score.weight.any()
    for reward_model, trunk in [(str(tmp_path), reward.base_model), (None, None)]:
        models = load_roles(toy.method("ppo"), base, settings_for(base), reward_model)
        critic = models["critic"]
        trunk = trunk or models["policy"].base_model
        assert not critic.score.weight.any()
        for ours, theirs in zip(critic.base_model.parameters(), trunk.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours is not theirs


@pytest.fixture
def shared(base):
    chosen = toy.method("ppo", critic="shared", vf_coef=0.5, entropy_coef=0.0)
    run = toy.run_for(base, chosen)
    return chosen, run, toy.collect(run, chosen, toy.split_for(base, "prompt").train[:6])


def test_row_14_a_shared_critic_is_a_head_of_zeros_on_the_policy_s_own_trunk(base, tmp_path):
    toy.run_for(base, toy.method("reward_model")).models["reward"].save_pretrained(tmp_path)
    models = load_roles(toy.method("ppo", critic="shared"), base, settings_for(base), str(tmp_path))
    assert models["critic"].base_model is models["policy"].base_model
    assert not models["critic"].score.weight.any()
    groups = parameter_groups(models.values(), 0.1)
    trained = [p for group in groups for p in group["params"]]
    assert len(trained) == len({id(p) for p in trained}) == len(list(models["policy"].parameters())) + 1


def test_row_14_the_shared_trunk_learns_from_both_losses_weighted_by_vf_coef(shared):
    chosen, run, batch = shared
    trunk = list(run.models["policy"].base_model.parameters())

    def gradient(**change):
        method = type(chosen)(**{**chosen.model_dump(), **change})
        total = method.optimize(run, batch).total
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, trunk)])

    policy, once, twice = gradient(vf_coef=0.0), gradient(vf_coef=0.5), gradient(vf_coef=1.0)
    assert float((once - policy).abs().max()) > 1e-3
    torch.testing.assert_close(twice - policy, 2 * (once - policy), atol=1e-4, rtol=1e-3)


def test_row_14_a_checkpoint_holds_the_shared_critic_s_head_and_the_trunk_once(shared, base, tmp_path):
    chosen, run, batch = shared
    optimizer = torch.optim.AdamW(parameter_groups(run.models.values(), 0.0), lr=1e-2)
    chosen.optimize(run, batch).total.backward()
    optimizer.step()
    path = save_checkpoint(tmp_path, Progress(1, "print", run.state), run.models, optimizer)
    assert set(load_file(path / "critic.safetensors")) == {"score.weight"}
    fresh = toy.run_for(base, chosen)
    again = torch.optim.AdamW(parameter_groups(fresh.models.values(), 0.0), lr=1e-2)
    load_checkpoint(path, fresh.models, again)
    with torch.no_grad():
        assert torch.equal(fresh.value("critic", batch), run.value("critic", batch))
        assert torch.equal(fresh.logp("policy", batch), run.logp("policy", batch))


def test_row_14_what_is_exported_beside_a_shared_critic_is_a_plain_language_model(shared):
    chosen, run, _ = shared
    exported = run.models[exported_role(chosen.roles)]
    assert type(exported).__name__ == "LlamaForCausalLM"
    assert not any("score" in name for name in exported.state_dict())


def test_row_15_the_recursion_of_gae_carries_over_a_hole_of_observed_tokens(scored):
    def with_hole(rollout):
        acted = rollout.acted.clone()
        for row in acted:
            row[row.nonzero().flatten()[2:5]] = False  # a tool's output in the middle of the answer
        return replace(rollout, acted=acted, sample_logp=rollout.sample_logp.where(acted, 0.0))

    settings = {"gamma": 0.9, "lam": 0.8, "kl_coef": 0.0, "whiten_advantages": False}
    _, _, batch, score = scored(**settings, zero_critic=False, change=with_hole)
    for i in range(len(batch)):
        values = batch.values[i][batch.acted[i]].tolist()
        advantage, expected = 0.0, []
        for t in reversed(range(len(values))):
            last = t == len(values) - 1
            delta = (float(score[i]) if last else 0.9 * values[t + 1]) - values[t]
            advantage = delta + 0.9 * 0.8 * advantage
            expected.append(advantage)
        assert batch.advantages[i][batch.acted[i]].tolist() == pytest.approx(expected[::-1], rel=1e-4, abs=1e-5)
        assert not batch.advantages[i][~batch.acted[i]].any()


@pytest.mark.parametrize("microbatch_tokens", [50, 100_000])
def test_row_16_advantages_are_whitened_over_all_acted_tokens(scored, microbatch_tokens):
    _, _, batch, _ = scored(zero_critic=False, microbatch_tokens=microbatch_tokens)
    acted = batch.advantages[batch.acted]
    assert float(acted.mean()) == pytest.approx(0, abs=1e-5)
    assert float(acted.var(correction=0)) == pytest.approx(1, abs=1e-4)
    assert bool((batch.advantages[~batch.acted] == 0).all())


def test_row_19_the_value_loss_is_half_the_larger_of_the_clipped_and_the_unclipped_error(scored):
    chosen, run, batch, _ = scored(zero_critic=False, value_clip=0.2)
    moved = replace(batch, values=batch.values + torch.tensor([0.5, -0.5, 0.1, 0.0, 0.3, -0.1]).unsqueeze(1))
    with torch.no_grad():
        metrics = chosen.optimize(run, moved).metrics
        values = run.value("critic", batch)
    expected = clipped = 0.0
    for i, t in batch.acted.nonzero().tolist():
        value, old, target = float(values[i, t]), float(moved.values[i, t]), float(batch.returns[i, t])
        errors = (value - target) ** 2, (min(max(value, old - 0.2), old + 0.2) - target) ** 2
        expected += 0.5 * max(errors)
        clipped += errors[1] > errors[0]
    assert clipped > 0
    assert float(metrics["value_loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["value_clip_fraction"]) == pytest.approx(clipped, abs=0.01)


def test_row_29_the_first_steps_train_the_critic_alone(base):
    chosen = toy.method("ppo", critic_warmup_steps=2)
    run = toy.run_for(base, chosen)
    settings = OptimizerSettings(method="ppo", steps=1, lr=1e-2)
    optimizer = AdamW().build(parameter_groups(run.models.values(), 0.1), settings)
    records = toy.split_for(base, "prompt").train[:4]

    def step():
        before = {role: [p.clone() for p in model.parameters()] for role, model in run.models.items()}
        chosen.optimize(run, toy.collect(run, chosen, records)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        return {
            role: any(not torch.equal(p, q) for p, q in zip(model.parameters(), before[role], strict=True))
            for role, model in run.models.items()
        }

    assert [step() for _ in range(3)] == [
        {"policy": False, "ref": False, "critic": True},  # not even decayed
        {"policy": False, "ref": False, "critic": True},
        {"policy": True, "ref": False, "critic": True},
    ]
    assert run.state["batches"] == 3


def test_row_29_an_evaluation_is_no_step(base):
    chosen = toy.method("ppo", critic_warmup_steps=2)
    run = toy.run_for(base, chosen)
    run.begin(0, train=False)
    toy.collect(run, chosen, toy.split_for(base, "prompt").train[:2])
    assert run.state == {}


def test_row_29_a_shared_critic_cannot_be_trained_alone():
    with pytest.raises(ValidationError, match="shared"):
        toy.method("ppo", critic="shared", critic_warmup_steps=2)
