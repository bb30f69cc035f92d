import pytest
import torch
import toy

from alignlab.batch import Record, Sample
from alignlab.config.recipe import ModelSettings
from alignlab.engine.microbatch import by_length
from alignlab.engine.roles import load_roles
from alignlab.engine.run import EngineRun
from alignlab.engine.update import accumulate
from alignlab.models import load_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.base_model(tmp_path_factory.mktemp("base") / "model")


def run_with(base, chosen, *, precision="fp32", **settings):
    models = load_roles(chosen, str(base), ModelSettings(path=str(base), device="cpu", **settings), None)
    return EngineRun(models, load_tokenizer(str(base)), seed=0, precision=precision, microbatch_tokens=200)


def sft_gradient(base, **settings):
    chosen = toy.method("sft")
    run = run_with(base, chosen, **settings)
    batch = toy.collect(run, chosen, toy.split_for(base, "completion").train[:6])
    accumulate(chosen, lambda part: chosen.optimize(run, part), batch, 100, backward=True)
    return torch.cat([p.grad.flatten().float() for p in run.models["policy"].parameters()])


def test_log_probs_are_those_of_the_model_itself(base):
    chosen = toy.method("dpo")
    run = run_with(base, chosen)
    batch = toy.collect(run, chosen, toy.split_for(base, "preference").train[:4])
    with torch.no_grad():
        ours = run.logp("policy", batch)
        logits = run.models["policy"](input_ids=batch.tokens, attention_mask=batch.valid.long()).logits
    theirs = logits[:, :-1].log_softmax(-1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(ours[:, 1:], theirs.where(batch.acted[:, 1:], 0.0), atol=1e-5, rtol=1e-4)
    assert bool((ours[~batch.acted] == 0).all())


def test_without_gradients_a_batch_larger_than_the_budget_gives_the_same_numbers(base):
    chosen = toy.method("ppo")
    run = run_with(base, chosen)
    batch = toy.split_for(base, "completion").train[:9]
    batch = toy.method("sft").data(run, batch)
    with torch.no_grad():
        parts = [run.logp("policy", batch), run.value("critic", batch), run.sequence_score("critic", batch)]
        run.microbatch_tokens = 10**6
        whole = [run.logp("policy", batch), run.value("critic", batch), run.sequence_score("critic", batch)]
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_rows_of_many_lengths_have_the_gradient_of_the_padded_batch(base):
    chosen = toy.method("dpo")
    run = toy.run_for(base, chosen)
    batch = chosen.data(run, toy.split_for(base, "preference").train[:8])
    model = run.models["policy"]
    assert len(list(by_length(batch, 100_000))) > 2
    weights = torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(0))
    (run.logp("policy", batch) * weights).sum().backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    logits = model(input_ids=batch.tokens, attention_mask=batch.valid.long()).logits[:, :-1]
    logp = logits.log_softmax(-1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    (logp * weights[:, 1:])[batch.acted[:, 1:]].sum().backward()
    for found, parameter in zip(ours, model.parameters(), strict=True):
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(found, parameter.grad, rtol=0, atol=1e-5 * scale)


def test_the_kl_to_itself_is_zero_and_to_another_model_what_the_formula_says(base):
    chosen = toy.method("dpo")
    run = toy.run_for(base, chosen)
    batch = toy.collect(run, chosen, toy.split_for(base, "preference").train[:3])
    with torch.no_grad():
        assert float(run.kl("policy", "policy", batch).abs().max()) < 1e-6
        ours = run.kl("policy", "ref", batch)
        p, q = (
            torch.distributions.Categorical(
                logits=run.models[role](input_ids=batch.tokens, attention_mask=batch.valid.long()).logits[:, :-1]
            )
            for role in ("policy", "ref")
        )
    theirs = torch.distributions.kl_divergence(p, q).where(batch.acted[:, 1:], 0.0)
    torch.testing.assert_close(ours[:, 1:], theirs, atol=1e-5, rtol=1e-3)


def test_gradient_checkpointing_changes_no_gradient(base):
    torch.testing.assert_close(sft_gradient(base, gradient_checkpointing=True), sft_gradient(base))


def test_bf16_autocast_trains_fp32_weights_with_almost_the_same_gradient(base):
    exact, rounded = sft_gradient(base), sft_gradient(base, precision="bf16")
    assert not torch.equal(exact, rounded)
    assert float(torch.nn.functional.cosine_similarity(exact, rounded, dim=0)) > 0.99


def test_the_same_step_draws_the_same_numbers_and_evaluation_draws_others(base):
    run = run_with(base, toy.method("sft"))

    def drawn(step, train=True):
        run.begin(step, train=train)
        return torch.rand(3, generator=run.rng).tolist()

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert drawn(3) != drawn(3, train=False)


def test_logged_numbers_are_averaged_and_taken_once(base):
    run = run_with(base, toy.method("sft"))
    run.log(kl=1.0)
    run.log(kl=3.0, score=5.0)
    assert run.logged() == {"kl": 2.0, "score": 5.0}
    assert run.logged() == {}


def test_a_prompt_as_long_as_the_context_is_an_error_with_what_to_do(base):
    from alignlab.errors import DataError

    chosen = toy.method("ppo")
    run = toy.run_for(base, chosen)
    tokens = (7,) * 128
    record = Record({"prompt": "long"}, {"prompt": Sample(tokens, (False,) * 128)}, "data.jsonl, row 3")
    with pytest.raises(DataError, match="128") as raised:
        chosen.data(run, [record])
    assert raised.value.do
