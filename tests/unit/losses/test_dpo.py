"""Every DPO loss against its formula, written out in fp64 with math alone; gradients; what depends on the batch."""

import math
from typing import get_args

import pytest
import torch

from alignlab.losses import DPOLoss, aot_match, dpo

BETA, GAMMA, TAU, SHIFT = 0.3, 0.4, 0.2, 0.7
LENGTHS = (torch.tensor([4, 7, 2, 9, 3, 5]), torch.tensor([6, 3, 8, 1, 9, 2]))
OF_BATCH = ["aot", "aot_unpaired"]
OF_PAIR = [name for name in get_args(DPOLoss) if name not in OF_BATCH]


def s(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def exo(h: float, wrong: float) -> float:
    return s(h) * math.log(s(h) / (1 - wrong)) + s(-h) * math.log(s(-h) / wrong)


# Of the log-ratios c and r (of the policy's log-probs for simpo), with no label smoothing but where the type wants one.
FORMULAS = {
    "sigmoid": lambda c, r: -math.log(s(BETA * (c - r))),
    "sigmoid_norm": lambda c, r: -math.log(s(BETA * (c - r))),
    "simpo": lambda c, r: -math.log(s(BETA * (c - r) - GAMMA)),
    "hinge": lambda c, r: max(0.0, 1 - BETA * (c - r)),
    "ipo": lambda c, r: (c - r - 1 / (2 * BETA)) ** 2,
    "robust": lambda c, r: -(0.9 * math.log(s(BETA * (c - r))) - 0.1 * math.log(s(BETA * (r - c)))) / (1 - 0.2),
    "exo_pair": lambda c, r: exo(BETA * (c - r), 0.1),
    "nca_pair": lambda c, r: -math.log(s(BETA * c)) - (math.log(s(-BETA * c)) + math.log(s(-BETA * r))) / 2,
    "bco_pair": lambda c, r: -math.log(s(BETA * c - SHIFT)) - math.log(s(-(BETA * r - SHIFT))),
    "sppo_hard": lambda c, r: (c - 1 / BETA * (1 - 0.5)) ** 2 + (r - 1 / BETA * (0 - 0.5)) ** 2,
    "apo_zero": lambda c, r: 1 - s(BETA * c) + s(BETA * r),
    "apo_down": lambda c, r: s(BETA * c) + 1 - s(BETA * (c - r)),
    "discopop": lambda c, r: (
        (1 - s(BETA * (c - r) / TAU)) * -math.log(s(BETA * (c - r)))
        + s(BETA * (c - r) / TAU) * math.exp(-BETA * (c - r))
    ),
}
WANTS = {"exo_pair": {"label_smoothing": 0.1}, "robust": {"label_smoothing": 0.1}, "bco_pair": {"shift": SHIFT}}
WANTS |= {"sigmoid_norm": {"lengths": LENGTHS}, "simpo": {"lengths": LENGTHS}}


def logps(seed=0, num=6, scale=3.0):
    return list(scale * torch.randn(4, num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def loss(name, inputs, **settings):
    settings = {"beta": BETA, "gamma": GAMMA, "tau": TAU, **WANTS.get(name, {}), **settings}
    return dpo(*inputs, loss_type=name, **settings)


def ratios(name, inputs, lengths=None):
    """The arguments of a formula, a pair at a time."""
    lengths = lengths or WANTS.get(name, {}).get("lengths", (torch.ones(6), torch.ones(6)))
    for i in range(len(inputs[0])):
        chosen, rejected, ref_chosen, ref_rejected = (float(x[i]) for x in inputs)
        if name == "simpo":
            ref_chosen = ref_rejected = 0.0
        yield (chosen - ref_chosen) / float(lengths[0][i]), (rejected - ref_rejected) / float(lengths[1][i])


def test_every_type_has_a_formula_here():
    assert sorted([*FORMULAS, *OF_BATCH]) == sorted(get_args(DPOLoss))


@pytest.mark.parametrize("name", OF_PAIR)
def test_each_loss_is_its_formula(name):
    inputs = logps()
    expected = [FORMULAS[name](c, r) for c, r in ratios(name, inputs)]
    assert loss(name, inputs).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", OF_PAIR)
def test_lengths_divide_every_log_prob_first(name):
    inputs = logps()
    expected = [FORMULAS[name](c, r) for c, r in ratios(name, inputs, LENGTHS)]
    assert loss(name, inputs, lengths=LENGTHS).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in OF_PAIR if name != "exo_pair"])
def test_a_soft_label_is_the_expectation_over_the_label(name):
    inputs, probability = logps(), torch.tensor([0.0, 0.2, 0.5, 0.8, 0.9, 1.0], dtype=torch.float64)
    expected = [
        float(p) * FORMULAS[name](c, r) + (1 - float(p)) * FORMULAS[name](r, c)
        for p, (c, r) in zip(probability, ratios(name, inputs), strict=True)
    ]
    assert loss(name, inputs, probability=probability).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in OF_PAIR if name not in ("exo_pair", "robust")])
def test_label_smoothing_is_a_soft_label_of_every_pair(name):
    inputs = logps()
    soft = loss(name, inputs, probability=torch.full((6,), 0.9, dtype=torch.float64))
    torch.testing.assert_close(loss(name, inputs, label_smoothing=0.1), soft)


def test_exo_takes_soft_labels_into_its_target():
    inputs, probability = logps(), torch.tensor([0.0, 0.2, 0.5, 0.8, 0.9, 1.0], dtype=torch.float64)
    wrong = [0.1 * float(p) + 0.9 * (1 - float(p)) for p in probability]
    expected = [exo(BETA * (c - r), w) for w, (c, r) in zip(wrong, ratios("exo_pair", inputs), strict=True)]
    assert loss("exo_pair", inputs, probability=probability).tolist() == pytest.approx(expected, rel=1e-12)


def test_robust_has_no_bias_from_wrong_labels():
    inputs = logps()
    turned = [inputs[1], inputs[0], inputs[3], inputs[2]]
    over_labels = 0.9 * loss("robust", inputs) + 0.1 * loss("robust", turned)
    torch.testing.assert_close(over_labels, loss("sigmoid", inputs))


def test_a_soft_sppo_has_the_gradient_of_the_paper_s_target():
    # Equation 4.7 with P for the winner and 1 - P for the loser: their constants differ, not their gradients.
    chosen, rejected, *refs = logps()
    probability = torch.tensor([0.0, 0.2, 0.5, 0.8, 0.9, 1.0], dtype=torch.float64)
    leaves = chosen.requires_grad_(), rejected.requires_grad_()
    ours = torch.autograd.grad(loss("sppo_hard", [*leaves, *refs], probability=probability).sum(), leaves)
    paper = (leaves[0] - refs[0] - (probability - 0.5) / BETA) ** 2
    paper = paper + (leaves[1] - refs[1] - (0.5 - probability) / BETA) ** 2
    for mine, theirs in zip(ours, torch.autograd.grad(paper.sum(), leaves), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_aot_compares_the_sorted_gaps_of_policy_and_reference(smoothing):
    chosen, rejected, ref_chosen, ref_rejected = inputs = logps()
    pairs = zip(sorted((chosen - rejected).tolist()), sorted((ref_chosen - ref_rejected).tolist()), strict=True)
    hs = [BETA * (ours - theirs) for ours, theirs in pairs]
    expected = sum(-(1 - smoothing) * math.log(s(h)) - smoothing * math.log(s(-h)) for h in hs)
    assert loss("aot", inputs, label_smoothing=smoothing).sum().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_aot_unpaired_compares_the_sorted_ratios_of_chosen_and_rejected(smoothing):
    inputs = logps()
    chosen, rejected = (sorted(values) for values in zip(*ratios("aot_unpaired", inputs), strict=True))
    hs = [BETA * (c - r) for c, r in zip(chosen, rejected, strict=True)]
    expected = sum(-(1 - smoothing) * math.log(s(h)) - smoothing * math.log(s(-h)) for h in hs)
    assert loss("aot_unpaired", inputs, label_smoothing=smoothing).sum().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", OF_BATCH)
def test_the_parts_of_a_batch_add_up_to_the_whole_where_pairs_are_matched(name, lengths):
    inputs = [x.requires_grad_() for x in logps()]
    whole = loss(name, inputs, lengths=lengths).sum()
    with torch.no_grad():
        matched = aot_match(*inputs, loss_type=name, lengths=lengths)
    parts = 0.0
    for rows in ([4, 1], [0], [5, 2, 3]):
        part = None if lengths is None else (lengths[0][rows], lengths[1][rows])
        parts += loss(name, [x[rows] for x in inputs], lengths=part, matched=matched[rows]).sum()
    assert parts.item() == pytest.approx(whole.item(), rel=1e-12)
    ours, theirs = (torch.autograd.grad(total, inputs[:2]) for total in (parts, whole))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("settings", [{}, {"lengths": LENGTHS}, {"probability": torch.linspace(0, 1, 6).double()}])
@pytest.mark.parametrize("name", get_args(DPOLoss))
def test_every_loss_passes_gradcheck(name, settings):
    if name in OF_BATCH and "probability" in settings:
        settings = {"label_smoothing": 0.2}
    inputs = [x.requires_grad_() for x in logps(seed=3)]
    assert torch.autograd.gradcheck(lambda *given: loss(name, given, **settings), inputs)


@pytest.mark.parametrize("distance", [-1e4, 1e4])
@pytest.mark.parametrize("name", get_args(DPOLoss))
def test_a_large_distance_gives_a_finite_loss_and_gradient_in_fp32(name, distance):
    zeros = torch.zeros(2)
    chosen = torch.tensor([distance, distance / 2]).requires_grad_()
    lengths = (torch.ones(2), torch.ones(2))
    found = loss(name, [chosen, zeros, zeros, zeros], label_smoothing=0.1, lengths=lengths)
    assert found.isfinite().all()
    assert torch.autograd.grad(found.sum(), chosen)[0].isfinite().all()


def test_a_policy_that_is_its_reference_has_a_loss_of_ln_2():
    logp = torch.randn(2, 5)
    assert dpo(*logp, *logp, beta=0.1).tolist() == pytest.approx([math.log(2)] * 5)


def test_smoothing_turns_the_gradient_round_once_the_pair_is_clearer_than_the_labels_are():
    zeros = torch.zeros(1)
    chosen = torch.tensor([10.0]).requires_grad_()
    found = dpo(chosen, zeros, zeros, zeros, beta=1.0, label_smoothing=0.1)
    assert torch.autograd.grad(found.sum(), chosen)[0].item() > 0


def test_half_precision_goes_in_and_fp32_comes_out():
    inputs = [x.half() for x in logps()]
    for name in get_args(DPOLoss):
        assert loss(name, inputs).dtype == torch.float32, name
        torch.testing.assert_close(loss(name, inputs), loss(name, [x.double() for x in inputs]).float(), msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "sigmiod"}, "there is no DPO loss 'sigmiod'; there are sigmoid, hinge, ipo"),
        ({"label_smoothing": 0.5}, r"label_smoothing wants to be in \[0, 0.5\), got 0.5"),
        ({"beta": 0}, "beta wants to be above 0, got 0"),
        ({"tau": 2.0}, r"tau wants to be in \(0, 1\], got 2.0"),
        ({"loss_type": "exo_pair"}, "exo_pair wants a label_smoothing above 0"),
        ({"loss_type": "simpo"}, "simpo wants the answers' lengths"),
        ({"loss_type": "sigmoid_norm"}, "sigmoid_norm wants the answers' lengths"),
        ({"loss_type": "aot", "probability": torch.ones(6)}, "a pair has no probability of its own"),
        ({"loss_type": "aot", "matched": torch.ones(6)}, r"matched wants shape \[N, 2\], got \[6\] for 6 pairs"),
        ({"probability": torch.ones(5)}, r"chosen_logp and probability want one shape \[N\], got \[6\] and \[5\]"),
        ({"lengths": (torch.ones(6), torch.ones(5))}, r"want one shape \[N\], got \[6\] and \[5\]"),
    ],
)
def test_what_a_loss_does_not_know_or_have_is_said(settings, message):
    with pytest.raises(ValueError, match=message):
        dpo(*logps(), **{"beta": BETA, **settings})


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"chosen_logp and ref_chosen_logp want one shape \[N\], got \[2\] and \[3\]"):
        dpo(torch.zeros(2), torch.zeros(2), torch.zeros(3), torch.zeros(2), beta=0.1)
