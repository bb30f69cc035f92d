"""The losses of methods: pure functions of log-probs and scores, one value per unit, no mean.

Any floating dtype goes in; the arithmetic and the results are fp32 (fp64 stays fp64).
"""

from alignlab.losses.dpo import DPOLoss, aot_match, dpo
from alignlab.losses.preference import pairwise, plackett_luce

__all__ = ["DPOLoss", "aot_match", "dpo", "pairwise", "plackett_luce"]
