"""The losses of direct preference optimization and its relatives: functions of two log-ratios, one value per pair."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from alignlab.losses._checks import check_rows
from alignlab.ops.reference.wide import wide

DPOLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "robust",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
    "simpo",
]
AOT: tuple[DPOLoss, ...] = ("aot", "aot_unpaired")
Lengths = tuple[Tensor, Tensor]


def dpo(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    *,
    beta: float,
    loss_type: DPOLoss = "sigmoid",
    label_smoothing: float = 0.0,
    probability: Tensor | None = None,
    lengths: Lengths | None = None,
    shift: float = 0.0,
    matched: Tensor | None = None,
    gamma: float = 0.5,
    tau: float = 0.05,
) -> Tensor:
    """Return the loss of each pair, by `loss_type`.

    All [N], and so is the result: log-probs of whole answers, summed over their tokens. With `lengths`, the tokens of
    chosen and rejected answers [N] each, every log-prob is divided by its answer's length first. c and r are the
    log-ratios chosen_logp - ref_chosen_logp and rejected_logp - ref_rejected_logp, h = c - r, and s = sigmoid:

    - sigmoid: -log s(beta h). Rafailov et al., 2023 (arXiv 2305.18290), equation 7.
    - sigmoid_norm: the same, and wants `lengths`. Lambert et al., 2024 (arXiv 2411.15124).
    - simpo: -log s(beta (chosen_logp - rejected_logp) - gamma); wants `lengths`, and looks at no reference. Meng et
      al., 2024 (arXiv 2405.14734), equation 6.
    - hinge: max(0, 1 - beta h), the loss of SLiC at DPO's rewards. Zhao et al., 2023 (arXiv 2305.10425).
    - ipo: (h - 1 / (2 beta))^2; beta is the paper's tau, and its log-probs are of whole answers. TRL's are averages
      over an answer's tokens, which `lengths` gives. Azar et al., 2023 (arXiv 2310.12036), equation 17.
    - robust: sigmoid's loss without the bias that a share `label_smoothing` of wrong labels brings into it.
      Chowdhury et al., 2024 (arXiv 2403.00409).
    - exo_pair: KL((s(beta h), s(-beta h)) || (1 - label_smoothing, label_smoothing)); wants label_smoothing above 0.
      Ji et al., 2024 (arXiv 2402.00856), equation 16.
    - nca_pair: -log s(beta c) - log s(-beta c) / 2 - log s(-beta r) / 2. Chen et al., 2024 (arXiv 2402.05369).
    - bco_pair: -log s(beta c - shift) - log s(shift - beta r); `shift` is the mean reward so far. Jung et al., 2024
      (arXiv 2404.04656).
    - sppo_hard: (c - 1 / (2 beta))^2 + (r + 1 / (2 beta))^2. Wu et al., 2024 (arXiv 2405.00675), equation 4.7.
    - aot: sigmoid's loss of the policy's gap chosen_logp - rejected_logp less the reference's gap of the same rank
      among the pairs; aot_unpaired: of c less the r of the same rank. The N pairs are the whole batch unless
      `matched`, which `aot_match` gives for it, is there. Melnyk et al., 2024 (arXiv 2406.05882).
    - apo_zero: 1 - s(beta c) + s(beta r); apo_down: s(beta c) + 1 - s(beta h). D'Oosterlinck et al., 2024 (arXiv
      2408.06266), equations 7 and 8.
    - discopop: (1 - m) (-log s(beta h)) + m exp(-beta h), m = s(beta h / tau). Lu et al., 2024 (arXiv
      2406.08414), equation 5.

    `probability` [N] says how likely chosen is the better one (1 if it is not given), and `label_smoothing` how likely
    a label is wrong. The loss is then its expectation over the label: p times the loss of the pair and 1 - p times that
    of the pair turned round (conservative DPO: Mitchell, "A note on DPO with noisy preferences", 2023); exo_pair takes
    p into its target instead, and aot turns the matched difference round and has no `probability`.

    Raises ValueError for shapes that differ, an unknown type, a beta that is not above 0, a label_smoothing outside
    [0, 0.5), and what a type wants or has not.
    """
    _check(loss_type, beta, label_smoothing, probability, lengths, tau)
    logps = _divided(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, lengths)
    if loss_type in AOT:
        return _aot(logps, loss_type, beta, label_smoothing, matched)
    chosen, rejected = (logps[0], logps[1]) if loss_type == "simpo" else (logps[0] - logps[2], logps[1] - logps[3])
    right: Tensor | float = 1.0
    if probability is not None:
        check_rows("chosen_logp", chosen_logp, probability=probability)
        right = wide(probability)
    if loss_type != "robust":  # which deals with wrong labels in its own way
        right = (1 - label_smoothing) * right + label_smoothing * (1 - right)
    if loss_type == "exo_pair":
        return _exo_pair(beta * (chosen - rejected), right)
    loss, numbers = LOSSES[loss_type], _Numbers(beta, label_smoothing, shift, gamma, tau)
    if isinstance(right, float) and right == 1:
        return loss(chosen, rejected, numbers)
    return right * loss(chosen, rejected, numbers) + (1 - right) * loss(rejected, chosen, numbers)


def aot_match(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    *,
    loss_type: Literal["aot", "aot_unpaired"],
    lengths: Lengths | None = None,
) -> Tensor:
    """Return what each pair of a batch is compared with by the loss `aot` or `aot_unpaired`, float [N, 2].

    The inputs are those of `dpo`, for the whole batch. For aot both columns hold the reference's gap that has the rank
    of the pair's own; for aot_unpaired, the rejected log-ratio of the chosen one's rank, and the chosen log-ratio of
    the rejected one's. With its rows given to `dpo` for any part of the batch, the losses of all parts add up to those
    of the batch, and so do their gradients. Raises ValueError for shapes that differ.
    """
    logps = _divided(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, lengths)
    if loss_type == "aot":
        matched = _of_same_rank(logps[0] - logps[1], logps[2] - logps[3])
        return torch.stack([matched, matched], 1)
    chosen, rejected = logps[0] - logps[2], logps[1] - logps[3]
    return torch.stack([_of_same_rank(chosen, rejected), _of_same_rank(rejected, chosen)], 1)


@dataclass(frozen=True)
class _Numbers:
    """The numbers of `dpo` that its formulas need."""

    beta: float
    label_smoothing: float
    shift: float
    gamma: float
    tau: float


def _sigmoid(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return -F.logsigmoid(n.beta * (chosen - rejected))


def _simpo(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return -F.logsigmoid(n.beta * (chosen - rejected) - n.gamma)


def _hinge(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return (1 - n.beta * (chosen - rejected)).relu()


def _ipo(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return (chosen - rejected - 1 / (2 * n.beta)).square()


def _robust(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    clean, flipped = _sigmoid(chosen, rejected, n), _sigmoid(rejected, chosen, n)
    return ((1 - n.label_smoothing) * clean - n.label_smoothing * flipped) / (1 - 2 * n.label_smoothing)


def _nca_pair(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    chosen, rejected = n.beta * chosen, n.beta * rejected
    return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)


def _bco_pair(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return -F.logsigmoid(n.beta * chosen - n.shift) - F.logsigmoid(n.shift - n.beta * rejected)


def _sppo_hard(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return (chosen - 0.5 / n.beta).square() + (rejected + 0.5 / n.beta).square()


def _apo_zero(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return (-n.beta * chosen).sigmoid() + (n.beta * rejected).sigmoid()


def _apo_down(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    return (n.beta * chosen).sigmoid() + (n.beta * (rejected - chosen)).sigmoid()


def _discopop(chosen: Tensor, rejected: Tensor, n: _Numbers) -> Tensor:
    h = n.beta * (chosen - rejected)
    exponential = (F.logsigmoid(h / n.tau) - h).exp()  # in one exponent: 0 * inf is no loss for a very negative h
    return (-h / n.tau).sigmoid() * -F.logsigmoid(h) + exponential


LOSSES: dict[str, Callable[[Tensor, Tensor, _Numbers], Tensor]] = {
    "sigmoid": _sigmoid,
    "sigmoid_norm": _sigmoid,
    "simpo": _simpo,
    "hinge": _hinge,
    "ipo": _ipo,
    "robust": _robust,
    "nca_pair": _nca_pair,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
}


def _exo_pair(h: Tensor, right: Tensor | float) -> Tensor:
    """Return KL((sigmoid(h), sigmoid(-h)) || (right, 1 - right)); `right` is strictly between 0 and 1."""
    right = torch.as_tensor(right, dtype=h.dtype, device=h.device)
    won, lost = F.logsigmoid(h), F.logsigmoid(-h)
    return won.exp() * (won - right.log()) + lost.exp() * (lost - (-right).log1p())


def _aot(
    logps: list[Tensor], loss_type: DPOLoss, beta: float, label_smoothing: float, matched: Tensor | None
) -> Tensor:
    def loss(h: Tensor) -> Tensor:
        return -(1 - label_smoothing) * F.logsigmoid(beta * h) - label_smoothing * F.logsigmoid(-beta * h)

    whole = matched is None
    if matched is None:
        matched = aot_match(*logps, loss_type=loss_type)  # type: ignore[arg-type]  # one of the two
    elif matched.shape != (len(logps[0]), 2):
        raise ValueError(f"matched wants shape [N, 2], got {list(matched.shape)} for {len(logps[0])} pairs")
    if loss_type == "aot":
        return loss(logps[0] - logps[1] - matched[:, 0])
    chosen, rejected = logps[0] - logps[2], logps[1] - logps[3]
    terms = loss(chosen - matched[:, 0]) + loss(matched[:, 1] - rejected)
    # Over the batch each matched difference stands here twice. Where the other side of it is a constant, the two halves
    # of its gradient come from its two appearances, so only the value is halved.
    return terms / 2 if whole else terms - terms.detach() / 2


def _of_same_rank(values: Tensor, others: Tensor) -> Tensor:
    """Return for each value the one of `others` that has its rank; all [N]."""
    ranks = values.argsort(stable=True).argsort(stable=True)
    return others.sort().values[ranks]


def _divided(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    lengths: Lengths | None,
) -> list[Tensor]:
    """Return the four, wide, and divided by their answers' lengths if these are given."""
    same = {"rejected_logp": rejected_logp, "ref_chosen_logp": ref_chosen_logp, "ref_rejected_logp": ref_rejected_logp}
    check_rows("chosen_logp", chosen_logp, **same)
    logps = [wide(x) for x in (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp)]
    if lengths is None:
        return logps
    check_rows("chosen_logp", chosen_logp, **{"lengths[0]": lengths[0], "lengths[1]": lengths[1]})
    return [logp / length.clamp_min(1) for logp, length in zip(logps, lengths * 2, strict=True)]


def _check(
    loss_type: DPOLoss,
    beta: float,
    label_smoothing: float,
    probability: Tensor | None,
    lengths: Lengths | None,
    tau: float,
) -> None:
    if loss_type not in get_args(DPOLoss):
        raise ValueError(f"there is no DPO loss {loss_type!r}; there are {', '.join(get_args(DPOLoss))}")
    if not beta > 0:
        raise ValueError(f"beta wants to be above 0, got {beta}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing wants to be in [0, 0.5), got {label_smoothing}")
    if not 0 < tau <= 1:
        raise ValueError(f"tau wants to be in (0, 1], got {tau}")
    if loss_type == "exo_pair" and label_smoothing == 0:
        raise ValueError("exo_pair wants a label_smoothing above 0 (the paper's is 1e-3): its target has no zeros")
    if loss_type in AOT and probability is not None:
        raise ValueError(f"{loss_type} matches answers across pairs, so a pair has no probability of its own")
    if loss_type in ("sigmoid_norm", "simpo") and lengths is None:
        raise ValueError(f"{loss_type} wants the answers' lengths")
