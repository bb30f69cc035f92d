"""The losses of methods: pure functions of log-probs and scores, one value per unit, no mean.

Any floating dtype goes in; the arithmetic and the results are fp32 (fp64 stays fp64).
"""

from alignlab.losses.calibration import calibration_sums
from alignlab.losses.dpo import DPOLoss, aot_match, dpo
from alignlab.losses.preference import all_pairs, pairwise, plackett_luce, ranked_pairs, stepwise

__all__ = [
    "DPOLoss",
    "all_pairs",
    "aot_match",
    "calibration_sums",
    "dpo",
    "pairwise",
    "plackett_luce",
    "ranked_pairs",
    "stepwise",
]
