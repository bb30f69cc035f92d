"""The losses of reward models: of pairs, of ranked lists, and of labelled steps."""

from typing import Literal

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


def plackett_luce(scores: Tensor, mask: Tensor, *, ranks: Tensor | None = None) -> Tensor:
    """Return the negative log-likelihood of a ranking for each row: each answer is chosen from those not yet placed.

    scores [N, K], best first, mask [N, K] True where there is an answer; the result is [N], 0 for a row of fewer than
    two answers. For two it is `pairwise`. `ranks` [N, K], the lowest for the best, lets scores stand in any order and
    answers tie: each of those that tie is then chosen from all of them and those after them, which draws their scores
    together (Breslow's likelihood; a ranking is an exploded logit, whose likelihood is Cox's). Raises ValueError for
    shapes that differ. Sources: Plackett, 1975; for preferences: Rafailov et al., 2023 (arXiv 2305.18290), equation 18;
    ties: Breslow, 1974; Allison and Christakis, 1994, on ranked lists.
    """
    _check_lists("scores", scores, mask=mask)
    if ranks is None:
        ranks = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    _check_lists("scores", scores, ranks=ranks)
    mask = mask.bool()
    scores = torch.where(mask, wide(scores), 0)
    not_yet_placed = ranks.unsqueeze(1) >= ranks.unsqueeze(2)  # bool [N, K, K]: answer k against k and those after it
    rivals = not_yet_placed & mask.unsqueeze(1)
    total = scores.unsqueeze(1).masked_fill(~rivals, -torch.inf).logsumexp(-1)  # float [N, K]
    return torch.where(mask, total - scores, 0).sum(-1)


def all_pairs(scores: Tensor, ranks: Tensor, mask: Tensor, *, ties: Literal["skip", "half"] = "skip") -> Tensor:
    """Return -1/C(K,2) times the sum of log sigmoid(better - worse) over the pairs of each row's K answers.

    scores and ranks [N, K], in any order, the lowest rank for the best; mask [N, K] True where there is an answer. The
    result is [N], 0 for a row of fewer than two answers. Of a pair that ties, "skip" takes nothing, and the mean is
    over the other pairs; "half" takes half of the loss of either order, which draws the two scores together. Raises
    ValueError for shapes that differ, or another `ties`. Source: Ouyang et al., 2022 (arXiv 2203.02155), equation 1.
    """
    if ties not in ("skip", "half"):
        raise ValueError(f"ties wants to be 'skip' or 'half', got {ties!r}")
    _check_lists("scores", scores, ranks=ranks, mask=mask)
    better, tied = ranked_pairs(ranks, mask)
    scores = torch.where(mask.bool(), wide(scores), 0)
    losses = -F.logsigmoid(scores.unsqueeze(2) - scores.unsqueeze(1))  # float [N, K, K]
    weights = better + 0.5 * tied if ties == "half" else better.to(losses.dtype)
    return (losses * weights).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1)


def ranked_pairs(ranks: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return where answer i is ranked better than answer j, and where the two tie, both bool [N, K, K].

    ranks [N, K], the lowest for the best, mask [N, K]. A pair that ties is True in both of its places. Raises
    ValueError for shapes that differ.
    """
    _check_lists("ranks", ranks, mask=mask)
    mask = mask.bool()
    both = mask.unsqueeze(2) & mask.unsqueeze(1)
    apart = ~torch.eye(ranks.shape[1], dtype=torch.bool, device=ranks.device)
    difference = ranks.unsqueeze(2) - ranks.unsqueeze(1)
    return (difference < 0) & both, (difference == 0) & both & apart


def stepwise(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy of each step of a process reward model: sigmoid(score) is P(the step is right).

    scores [N] and labels [N] (bool, or probabilities), and so is the result. Raises ValueError for shapes that differ.
    Sources: Uesato et al., 2022 (arXiv 2211.14275); Lightman et al., 2023 (arXiv 2305.20050).
    """
    check_rows("scores", scores, labels=labels)
    scores = wide(scores)
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none")


def _check_lists(like: str, lists: Tensor, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if lists.dim() != 2 or lists.shape != tensor.shape:
            wanted = "one shape [N, K]"
            raise ValueError(f"{like} and {name} want {wanted}, got {list(lists.shape)} and {list(tensor.shape)}")
