"""The losses of methods: pure functions of log-probs and scores, one value per unit, no mean.

Any floating dtype goes in; the arithmetic and the results are fp32 (fp64 stays fp64).
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from alignlab.ops.reference.wide import wide

DPOLoss = Literal["sigmoid", "hinge", "ipo"]


def dpo(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    *,
    beta: float,
    loss_type: DPOLoss = "sigmoid",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of direct preference optimization for each pair.

    All [N], and so is the result: log-probs of whole answers, summed over their tokens. With h = (chosen_logp -
    ref_chosen_logp) - (rejected_logp - ref_rejected_logp):

    - sigmoid: -log sigmoid(beta * h). `label_smoothing`, the probability that a label is wrong, mixes in the loss of
      the pair turned round (conservative DPO).
    - hinge: max(0, 1 - beta * h), the loss of SLiC at DPO's rewards.
    - ipo: (h - 1 / (2 * beta))**2; beta is the paper's tau. The paper's log-probs are of whole answers, so summed, and
      this function takes them as they come; TRL hands the average over an answer's tokens to its ipo loss, so a beta
      tuned there is for averages.

    Raises ValueError for shapes that differ, an unknown type, a beta that is not above 0, and a label_smoothing outside
    [0, 0.5) or with a type that has none. Sources: Rafailov et al., 2023 (arXiv 2305.18290), equation 7; Mitchell, "A
    note on DPO with noisy preferences" (2023); Zhao et al., 2023 (arXiv 2305.10425); Azar et al., 2023 (arXiv
    2310.12036), equation 17.
    """
    same = {"rejected_logp": rejected_logp, "ref_chosen_logp": ref_chosen_logp, "ref_rejected_logp": ref_rejected_logp}
    _check_rows("chosen_logp", chosen_logp, **same)
    if loss_type not in get_args(DPOLoss):
        raise ValueError(f"there is no DPO loss {loss_type!r}; there are {', '.join(get_args(DPOLoss))}")
    if not beta > 0:
        raise ValueError(f"beta wants to be above 0, got {beta}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing wants to be in [0, 0.5), got {label_smoothing}")
    if label_smoothing and loss_type != "sigmoid":
        raise ValueError(f"label_smoothing is for the sigmoid loss, and the loss is {loss_type}")
    chosen, rejected = wide(chosen_logp), wide(rejected_logp)
    gap = (chosen - wide(ref_chosen_logp)) - (rejected - wide(ref_rejected_logp))
    if loss_type == "hinge":
        return (1 - beta * gap).relu()
    if loss_type == "ipo":
        return (gap - 1 / (2 * beta)).square()
    return -(1 - label_smoothing) * F.logsigmoid(beta * gap) - label_smoothing * F.logsigmoid(-beta * gap)


def pairwise(chosen: Tensor, rejected: Tensor, *, margin: Tensor | float | None = None) -> Tensor:
    """Return -log sigmoid(chosen - rejected - margin), the loss of a reward model, for each pair.

    chosen and rejected [N] are scores, and so is the result; margin is a number or [N], 0 if not given. Raises
    ValueError for shapes that differ. Sources: Bradley and Terry, 1952; Ouyang et al., 2022 (arXiv 2203.02155),
    equation 1; the margin: Touvron et al., 2023 (arXiv 2307.09288), equation 2.
    """
    _check_rows("chosen", chosen, rejected=rejected)
    if isinstance(margin, Tensor) and margin.dim() > 0:
        _check_rows("chosen", chosen, margin=margin)
    gap = wide(chosen) - wide(rejected)
    return -F.logsigmoid(gap if margin is None else gap - margin)


def plackett_luce(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the negative log-likelihood of a ranking for each row: each answer is chosen from those not yet placed.

    scores [N, K], best first, mask [N, K] True where there is an answer; the result is [N], 0 for a row of fewer than
    two answers. For two it is `pairwise`. Raises ValueError for shapes that differ. Sources: Plackett, 1975; for
    preferences: Rafailov et al., 2023 (arXiv 2305.18290), equation 18.
    """
    if scores.dim() != 2 or scores.shape != mask.shape:
        wanted = "one shape [N, K]"
        raise ValueError(f"scores and mask want {wanted}, got {list(scores.shape)} and {list(mask.shape)}")
    mask = mask.bool()
    scores = torch.where(mask, wide(scores), 0)
    not_yet_placed = mask.new_ones(scores.shape[1], scores.shape[1]).triu()  # bool [K, K]: answer k against k and later
    rivals = not_yet_placed & mask.unsqueeze(1)  # bool [N, K, K]
    total = scores.unsqueeze(1).masked_fill(~rivals, -torch.inf).logsumexp(-1)  # float [N, K]
    return torch.where(mask, total - scores, 0).sum(-1)


def _check_rows(like: str, rows: Tensor, **tensors: Tensor) -> None:
    for name, tensor in {like: rows, **tensors}.items():
        if tensor.dim() != 1 or tensor.shape != rows.shape:
            raise ValueError(f"{like} and {name} want one shape [N], got {list(rows.shape)} and {list(tensor.shape)}")
