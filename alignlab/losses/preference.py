"""The losses of reward models: of pairs and of ranked lists."""

import torch
import torch.nn.functional as F
from torch import Tensor

from alignlab.losses._checks import check_rows
from alignlab.ops.reference.wide import wide


def pairwise(chosen: Tensor, rejected: Tensor, *, margin: Tensor | float | None = None) -> Tensor:
    """Return -log sigmoid(chosen - rejected - margin), the loss of a reward model, for each pair.

    chosen and rejected [N] are scores, and so is the result; margin is a number or [N], 0 if not given. Raises
    ValueError for shapes that differ. Sources: Bradley and Terry, 1952; Ouyang et al., 2022 (arXiv 2203.02155),
    equation 1; the margin: Touvron et al., 2023 (arXiv 2307.09288), equation 2.
    """
    check_rows("chosen", chosen, rejected=rejected)
    if isinstance(margin, Tensor) and margin.dim() > 0:
        check_rows("chosen", chosen, margin=margin)
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
