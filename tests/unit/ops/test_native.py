"""The C++ extension: against the reference in fp64 on fresh inputs, and what it says of inputs that do not fit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab import ops
from alignlab.testing import check_op, compare_op

pytestmark = pytest.mark.skipif("native" not in ops.implementations("gae"), reason="alignlab was built without csrc/")
INF = torch.inf
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
TEMPERATURES = st.floats(0.05, 20)


@pytest.mark.parametrize("op", ops.OPS)
def test_native_holds_what_every_implementation_has_to(op):
    check_op(op, "native")


@st.composite
def logits(draw, shape, dtype):
    """Logits of any size, with -inf among them, in rows with gaps or columns that do not lie side by side."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(*shape, generator=rng) * draw(st.sampled_from([0.1, 3.0, 30.0, 1000.0]))
    x += draw(st.sampled_from([0.0, 100.0, -1e4]))
    x[torch.rand(*shape, generator=rng) < draw(st.sampled_from([0.0, 0.2, 0.9]))] = -INF
    x[..., draw(st.integers(0, shape[-1] - 1))] = draw(st.floats(-5, 5))
    layout = draw(st.sampled_from(["dense", "gaps", "transposed"]))
    x = x.to(dtype)
    if layout == "gaps":
        return torch.cat([x, x], -2)[..., : x.shape[-2], :]
    return x.transpose(0, -1).contiguous().transpose(0, -1) if layout == "transposed" else x


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.data(), DTYPES, st.integers(1, 5), st.integers(1, 4), st.integers(1, 700), TEMPERATURES, st.booleans())
def test_token_logp_of_anything(data, dtype, num_rows, num_columns, vocab, temperature, entropy):
    x = data.draw(logits((num_rows, num_columns, vocab), dtype))
    # A token of log-prob -inf has an infinite loss, and no gradient to compare.
    tokens = torch.where(x.isinf(), -1.0, torch.rand(x.shape)).argmax(-1)
    options = {"temperature": temperature, "entropy": entropy}
    compare_op("token_logp", "native", [x, tokens], options, (0,))


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.data(), DTYPES, st.integers(1, 5), st.integers(1, 700), st.floats(0.2, 20))
def test_kl_divergence_of_anything(data, dtype, num_rows, vocab, temperature):
    p, q = (data.draw(logits((num_rows, vocab), dtype)) for _ in range(2))
    p = torch.where(q.isinf(), -INF, p)  # else it is inf, and has no gradient to compare
    p[:, vocab // 2], q[:, vocab // 2] = 1, 2
    compare_op("kl_divergence", "native", [p, q], {"temperature": temperature}, (0, 1))


@settings(max_examples=60, deadline=None, print_blob=True)
@given(
    st.sampled_from(["kl_estimate", "gae", "masked_whiten", "ppo_policy_loss", "ppo_value_loss"]),
    DTYPES,
    st.integers(0, 6),
    st.integers(0, 600),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_what_has_a_number_a_token_of_any_shape_and_mask(op, dtype, num_rows, num_columns, share, is_sliced, seed):
    rng = torch.Generator().manual_seed(seed)
    a, b, c = (torch.randn(3, num_rows, num_columns + 1, generator=rng) / 2).to(dtype)
    mask = torch.rand(num_rows, num_columns + 1, generator=rng) < share
    a, b, c, mask = (x[:, 1:] if is_sliced else x[:, :-1].contiguous() for x in (a, b, c, mask))
    inputs, grads = {
        "kl_estimate": ([a, b], (0, 1)),
        "gae": ([a, b, mask], ()),
        "masked_whiten": ([a, mask], (0,) if mask.sum() > 2 else ()),
        "ppo_policy_loss": ([a, b, c, mask], (0,)),
        "ppo_value_loss": ([a, b, c, mask], (0,)),
    }[op]
    compare_op(op, "native", inputs, {}, grads)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_lowest_float_in_place_of_minus_inf_is_a_number_where_the_reference_has_one(temperature):
    x = torch.randn(3, 300)
    x[:, ::2] = torch.finfo(torch.float32).min
    if temperature >= 1:  # else it is -inf in fp32, and the row is no distribution
        x[2] = torch.finfo(torch.float32).min
    compare_op("token_logp", "native", [x, torch.tensor([1, 3, 5])], {"temperature": temperature, "entropy": True})


def test_a_logit_of_inf_or_nan_is_nan_and_does_not_spread_to_other_rows():
    x = torch.randn(3, 300)
    x[0, 7], x[1, 9] = INF, torch.nan
    logp = ops.token_logp(x, torch.tensor([1, 3, 5]), backend="native")
    assert logp.isnan().tolist() == [True, True, False]


def test_a_token_outside_the_vocabulary_is_an_error_with_its_place_and_value():
    tokens = torch.tensor([[0, 1, 2], [3, 5, 4]])
    with pytest.raises(RuntimeError, match=r"tokens wants values in \[0, 5\), got 5 at \[1, 1\]"):
        ops.token_logp(torch.zeros(2, 3, 5), tokens, backend="native")
    with pytest.raises(RuntimeError, match=r"tokens wants values in \[0, 5\), got -100 at \[2\]"):
        ops.linear_logp(torch.zeros(3, 2), torch.zeros(5, 2), torch.tensor([0, 4, -100]), backend="native")


def head(num_rows=4, vocab=300):
    hidden = torch.randn(num_rows, 8, requires_grad=True)
    return hidden, torch.randn(vocab, 8), torch.randint(vocab, (num_rows,))


def test_inplace_backward_writes_the_same_gradient_over_the_logits():
    hidden, weight, tokens = head()
    grads = []
    for inplace in (False, True):
        logits = hidden @ weight.T
        logp, entropy = ops.token_logp(logits, tokens, entropy=True, inplace_backward=inplace, backend="native")
        before = logits.detach().clone()
        (logp * torch.arange(4) + entropy).sum().backward()
        grads.append(hidden.grad.clone())
        hidden.grad = None
        assert torch.equal(logits, before) is not inplace
    assert torch.equal(*grads)


def test_inplace_backward_of_the_kl_writes_over_what_has_a_gradient_and_over_nothing_else():
    hidden, weight, _ = head()
    q = torch.randn(4, 300)
    grads = []
    for inplace in (False, True):
        p, before = hidden @ weight.T, q.clone()
        ops.kl_divergence(p, q, inplace_backward=inplace, backend="native").sum().backward()
        grads.append(hidden.grad.clone())
        hidden.grad = None
        assert torch.equal(p.detach(), (hidden @ weight.T).detach()) is not inplace
        assert torch.equal(q, before)
    assert torch.equal(*grads)
    with pytest.raises(RuntimeError, match="wants logits_p and logits_q to be two tensors"):
        ops.kl_divergence(p := hidden @ weight.T, p, inplace_backward=True, backend="native").sum().backward()


def test_inplace_backward_of_logits_that_autograd_keeps_for_something_else_is_an_error():
    hidden, weight, tokens = head()
    logits = (hidden @ weight.T).exp()  # exp keeps its result for its own backward
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ops.token_logp(logits, tokens, inplace_backward=True, backend="native").sum().backward()
    logits = hidden @ weight.T
    twice = [ops.token_logp(logits, tokens, inplace_backward=True, backend="native").sum() for _ in range(2)]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sum(twice).backward()


def test_inplace_backward_of_a_leaf_is_an_error_with_every_backend():
    hidden = torch.randn(2, 5, requires_grad=True)
    for backend in ("native", "reference"):
        with pytest.raises(ValueError, match=r"writes over logits, and this \(\[2, 5\]\) is a leaf, not a result"):
            ops.token_logp(hidden, torch.tensor([0, 1]), inplace_backward=True, backend=backend)


def test_an_upstream_gradient_of_its_own_for_every_row_scales_that_row():
    x = torch.randn(3, 50, requires_grad=True)
    logp = ops.token_logp(x, torch.tensor([1, 2, 3]), backend="native")
    logp.backward(torch.tensor([0.0, 1.0, -2.0]))
    (ones,) = torch.autograd.grad(ops.token_logp(x, torch.tensor([1, 2, 3]), backend="native").sum(), x)
    torch.testing.assert_close(x.grad, ones * torch.tensor([[0.0], [1.0], [-2.0]]))


def test_the_losses_can_go_backward_twice():
    logp = torch.randn(4, 9, requires_grad=True)
    mask = torch.ones(4, 9, dtype=torch.bool)
    loss = ops.ppo_policy_loss(logp, torch.zeros(4, 9), torch.randn(4, 9), mask, backend="native")
    (first,) = torch.autograd.grad(2 * loss.total, logp, retain_graph=True)
    (second,) = torch.autograd.grad(loss.total, logp)
    assert torch.equal(first, 2 * second)
    assert not any(metric.requires_grad for metric in loss[1:])


def test_offsets_above_2_to_the_31_are_right():
    x = torch.zeros(1, dtype=torch.bfloat16).expand(3, 2**30)  # 3 * 2^30 elements, none of them in memory
    wide = torch.as_strided(torch.randn(2**16), (70000, 100), (0, 1))  # more rows than a grid's y axis has
    assert ops.kl_divergence(x[:1, :256], x[:1, :256], backend="native").tolist() == [0]
    logp = ops.token_logp(wide, torch.full((70000,), 99), backend="native")
    assert logp.shape == (70000,)
    assert (logp == logp[0]).all()


def test_the_kernels_own_checks_say_the_shape_that_came():
    ones, mask = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    native = torch.ops.alignlab
    with pytest.raises(RuntimeError, match=r"values wants the shape of rewards, \[2, 3\], got \[2, 2\]"):
        native.gae(ones, ones[:, 1:], mask, 1.0, 1.0)
    with pytest.raises(RuntimeError, match="mask wants dtype bool"):
        native.gae(ones, ones, ones, 1.0, 1.0)
    with pytest.raises(RuntimeError, match="rewards wants dtype float32, bfloat16 or float16"):
        native.gae(mask, mask, mask, 1.0, 1.0)
    with pytest.raises(RuntimeError, match=r"logits and tokens want shapes \[\.\.\., V\] and \[\.\.\.\], got \[2, 3\]"):
        native.token_logp(ones, torch.zeros(3, dtype=torch.long), 1.0, False)
    with pytest.raises(RuntimeError, match=r"mask wants the shape of x, \[2, 3\], got \[2, 2\]"):
        native.masked_whiten(ones, mask[:, 1:], True)
    with pytest.raises(RuntimeError, match=r"logits_q wants the shape of logits_p, \[2, 3\], got \[3, 2\]"):
        native.kl_divergence(ones, ones.T, 1.0)
    with pytest.raises(RuntimeError, match="logp wants dtype float32, bfloat16 or float16"):
        native.kl_estimate(ones.double(), ones, 1)


def test_tensors_on_two_devices_are_an_error_that_names_them():
    with pytest.raises(ValueError, match="all tensors want one device, got logits on cpu, tokens on meta"):
        ops.token_logp(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long, device="meta"))


def test_build_facts_name_compiler_flags_torch_and_what_the_processor_runs():
    facts = ops.build_facts()
    assert {"compiler", "flags", "torch", "cuda architectures"} <= facts.keys()
    assert facts["cpu capability"] in ("baseline", "avx2", "avx512")
    assert "march" not in facts["flags"]
