"""The losses of direct preference optimization, by type."""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from alignlab.losses._checks import check_rows
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
    check_rows("chosen_logp", chosen_logp, **same)
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
