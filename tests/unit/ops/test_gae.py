import pytest
import torch

from alignlab.ops import gae, implementations

BACKENDS = implementations("gae")
pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def experience(dtype=torch.float32, shape=(5, 47)):
    torch.manual_seed(0)
    return torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype), torch.rand(shape) < 0.7


def by_definition(rewards, values, gamma, lam):
    """Equation 16 of the paper, term by term, for one row without holes."""
    values = [*values, 0.0]
    deltas = [r + gamma * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    return [sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:])) for t in range(len(deltas))]


def test_it_is_the_sum_of_discounted_residuals(backend):
    rewards, values, _ = experience()
    mask = torch.ones_like(rewards, dtype=torch.bool)
    advantages, returns = gae(rewards, values, mask, gamma=0.9, lam=0.8, backend=backend)
    truth = [by_definition(r, v, 0.9, 0.8) for r, v in zip(rewards.tolist(), values.tolist(), strict=True)]
    torch.testing.assert_close(advantages, torch.tensor(truth), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(returns, advantages + values)


def test_the_value_at_a_token_is_of_the_state_before_it(backend):
    rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.5]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=0.0, backend=backend)
    assert advantages.tolist() == [[0.25, 0.5]]  # 0 + 0.5 - 0.25, and 1 + 0 - 0.5
    assert returns.tolist() == [[0.5, 1.0]]


def test_the_recursion_carries_over_holes_as_if_they_were_not_there(backend):
    rewards, values, mask = experience()
    advantages, returns = gae(rewards, values, mask, gamma=0.9, lam=0.8, backend=backend)
    for row, kept in enumerate(mask):
        truth = by_definition(rewards[row][kept].tolist(), values[row][kept].tolist(), 0.9, 0.8)
        assert advantages[row][kept].tolist() == pytest.approx(truth, abs=1e-5)
        assert advantages[row][~kept].abs().sum() == returns[row][~kept].abs().sum() == 0


def test_what_stands_at_masked_positions_is_not_read(backend):
    rewards, values, mask = experience()
    clean = gae(rewards, values, mask, backend=backend)
    dirty = gae(rewards.masked_fill(~mask, torch.nan), values.masked_fill(~mask, torch.inf), mask, backend=backend)
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[1], dirty[1])


def test_a_fully_masked_row_is_zero_and_empty_is_empty(backend):
    rewards, values, mask = experience()
    mask[1] = False
    advantages, returns = gae(rewards, values, mask, backend=backend)
    assert advantages[1].abs().sum() == returns[1].abs().sum() == 0
    for shape in [(0, 4), (4, 0), (0, 0)]:
        empty = gae(torch.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.bool), backend=backend)
        assert empty[0].shape == empty[1].shape == shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_runs_in_fp32(backend, dtype):
    rewards, values, mask = experience(dtype)
    advantages, returns = gae(rewards, values, mask, backend=backend)
    truth, true_returns = gae(rewards.double(), values.double(), mask, backend="reference")
    assert advantages.dtype == returns.dtype == torch.float32
    torch.testing.assert_close(advantages.double(), truth, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(returns.double(), true_returns, atol=1e-5, rtol=1e-5)


def test_rewards_and_values_may_have_different_dtypes(backend):
    rewards, values, mask = experience()
    advantages, _ = gae(rewards.bfloat16(), values.float(), mask, backend=backend)
    truth, _ = gae(rewards.bfloat16().double(), values.float().double(), mask, backend="reference")
    assert advantages.dtype == torch.float32
    torch.testing.assert_close(advantages.double(), truth, atol=1e-5, rtol=1e-5)


def test_non_contiguous_inputs_give_what_their_copies_give(backend):
    rewards, values, mask = experience(shape=(8, 12))
    views = rewards.T[1::2], values.T[1::2], mask.T[1::2]
    copies = [view.contiguous() for view in views]
    for from_view, from_copy in zip(gae(*views, backend=backend), gae(*copies, backend=backend), strict=True):
        assert torch.equal(from_view, from_copy)


def test_the_bits_do_not_depend_on_the_number_of_threads(backend):
    rewards, values, mask = experience(torch.float32, shape=(64, 2048))
    threads = torch.get_num_threads()
    one = gae(rewards, values, mask, backend=backend)
    torch.set_num_threads(3)
    three = gae(rewards, values, mask, backend=backend)
    torch.set_num_threads(threads)
    assert torch.equal(one[0], three[0])
    assert torch.equal(one[1], three[1])


def test_advantages_are_data_and_have_no_gradient(backend):
    rewards, values, mask = experience()
    advantages, returns = gae(rewards, values.requires_grad_(), mask, backend=backend)
    assert not advantages.requires_grad
    assert not returns.requires_grad


def test_a_mask_of_numbers_is_a_mask(backend):
    rewards, values, mask = experience()
    assert torch.equal(
        gae(rewards, values, mask.long(), backend=backend)[0], gae(rewards, values, mask, backend=backend)[0]
    )


def test_shapes_that_differ_are_an_error(backend):
    rewards, values, mask = experience()
    with pytest.raises(ValueError, match=r"values wants the shape of rewards, \[5, 47\], got \[5, 46\]"):
        gae(rewards, values[:, 1:], mask, backend=backend)
    with pytest.raises(ValueError, match=r"rewards wants shape \[B, T\], got \[47\]"):
        gae(rewards[0], values[0], mask[0], backend=backend)


def test_it_compiles_as_one_graph(backend):
    rewards, values, mask = experience(torch.float32, shape=(3, 4))
    compiled = torch.compile(lambda *x: gae(*x, gamma=0.9, backend=backend), fullgraph=True, backend="aot_eager")
    for result, truth in zip(compiled(rewards, values, mask), gae(rewards, values, mask, gamma=0.9), strict=True):
        torch.testing.assert_close(result, truth)
