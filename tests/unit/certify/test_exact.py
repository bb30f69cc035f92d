import pytest
import torch

from alignlab.certify.exact import (
    answer_logp,
    answer_scores,
    divergence,
    gain_share,
    kl_optimum,
    objective,
    probability_errors,
)
from alignlab.certify.model import new_base
from alignlab.certify.world import World, WorldSize
from alignlab.models import load_model, load_tokenizer

WORLD = World(WorldSize(num_letters=3, max_letters=2, num_prompts=2))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base") / "model"
    new_base(WORLD, 16, directory)
    return str(directory)


def load(base, head):
    model = load_model(base, head, dtype=torch.float64, device=torch.device("cpu"))
    for parameter in model.parameters():  # random weights are nearly uniform
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
    return model, load_tokenizer(base)


def by_hand(model, tokenizer, prompt, answer, temperature):
    """The log-prob of an answer and EOS, token by token."""
    tokens = tokenizer(prompt + answer)["input_ids"] + [tokenizer.eos_token_id]
    total = 0.0
    for place in range(len(prompt), len(tokens)):
        logits = model(input_ids=torch.tensor([tokens[:place]])).logits[0, -1] / temperature
        total += float(logits.log_softmax(-1)[tokens[place]])
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_log_prob_of_every_answer_is_what_it_is_token_by_token(base, temperature):
    model, tokenizer = load(base, "lm")
    found = answer_logp(model, tokenizer, WORLD, temperature=temperature)
    for row, prompt in enumerate(WORLD.prompts):
        with torch.no_grad():
            expected = [by_hand(model, tokenizer, prompt, answer, temperature) for answer in WORLD.answers]
        assert found[row].tolist() == pytest.approx(expected, abs=1e-5)  # Llama's norms round to fp32


def test_what_is_missing_to_one_is_the_probability_of_no_answer(base):
    model, tokenizer = load(base, "lm")
    outside = 1 - answer_logp(model, tokenizer, WORLD)[0].exp().sum()
    prompt = tokenizer(WORLD.prompts[0])["input_ids"]
    words = torch.cartesian_prod(*[torch.tensor(tokenizer(WORLD.letters)["input_ids"])] * 2)
    tokens = torch.cat([torch.tensor(prompt).expand(len(words), -1), words], 1)
    with torch.no_grad():
        logp = model(input_ids=tokens).logits.log_softmax(-1)[:, len(prompt) - 1 :]
    empty = logp[0, 0, tokenizer.eos_token_id].exp()
    both = logp[:, :-1].gather(-1, words[..., None]).squeeze(-1).sum(1).exp()
    endless = (both * (1 - logp[:, 2, tokenizer.eos_token_id].exp())).sum()
    assert float(outside) == pytest.approx(float(empty + endless), abs=1e-6)
    assert float(outside) > 0.05


def test_the_score_of_every_answer_is_the_head_s_after_its_eos(base):
    model, tokenizer = load(base, "scalar")
    model.score.weight.data = torch.randn(1, 16, generator=torch.Generator().manual_seed(2)).double()
    found = answer_scores(model, tokenizer, WORLD)
    for column in (0, 5, 11):
        tokens = tokenizer(WORLD.prompts[1] + WORLD.answers[column])["input_ids"] + [tokenizer.eos_token_id]
        with torch.no_grad():
            score = model.score(model.model(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1])
        assert float(found[1, column]) == pytest.approx(float(score), abs=1e-5)


def drawn(seed):
    return torch.randn(2, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(1)


def test_no_policy_is_better_than_the_optimum_and_what_is_missing_is_beta_times_a_divergence():
    reference, beta = drawn(0), 0.4
    best = kl_optimum(reference, WORLD.rewards, beta)
    for seed in range(1, 6):
        missing = objective(best, reference, WORLD.rewards, beta) - objective(
            drawn(seed), reference, WORLD.rewards, beta
        )
        assert missing == pytest.approx(beta * divergence(drawn(seed), best))
        assert missing > 0


def test_the_share_of_the_gain_is_that_of_the_objective():
    reference, beta = drawn(0), 0.4
    best = kl_optimum(reference, WORLD.rewards, beta)
    policy = (0.7 * best + 0.3 * drawn(3)).log_softmax(1)
    values = [objective(logp, reference, WORLD.rewards, beta) for logp in (reference, policy, best)]
    assert gain_share(policy, reference, best) == pytest.approx((values[1] - values[0]) / (values[2] - values[0]))
    assert gain_share(best, reference, best) == 1
    assert gain_share(reference, reference, best) == 0


def test_scores_that_are_the_rewards_have_no_error_whatever_is_added_to_them():
    shift = torch.tensor([[3.0], [-1.0]], dtype=torch.float64)
    assert probability_errors(WORLD.rewards + shift, WORLD.preferences, drawn(0)) == pytest.approx((0, 0), abs=1e-12)
    mean, most = probability_errors(0 * WORLD.rewards, WORLD.preferences, drawn(0))
    assert most == pytest.approx(float((WORLD.preferences - 0.5).abs().max()))
    assert 0.05 < mean < most
