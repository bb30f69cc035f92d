"""Which rows are held out, and in which order the others are drawn: pure functions of seeds."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import torch


def held_out_prompts(prompts: Sequence[str], wanted: float, split_seed: int) -> frozenset[str]:
    """Return the prompts whose rows are held out; `prompts` has one for each row.

    The distinct prompts are ordered by a hash of (split_seed, prompt), and the first are taken: for a share (below 1)
    that share of the prompts, rounded, and at least one; for a number (1 and above) until their rows are that many. So
    the rows of a prompt stay together, the order of rows does not matter, and phases and sources with the same prompts
    hold out the same, whatever their row formats are and however many rows they have to each prompt.
    """
    counts = Counter(prompts)
    ordered = sorted(counts, key=lambda prompt: hashlib.sha256(f"{split_seed}\0{prompt}".encode()).digest())
    if wanted <= 0 or not ordered:
        return frozenset()
    if wanted < 1:
        return frozenset(ordered[: max(round(wanted * len(ordered)), 1)])
    taken, num_rows = 0, 0
    while num_rows < wanted and taken < len(ordered):
        num_rows += counts[ordered[taken]]
        taken += 1
    return frozenset(ordered[:taken])


@lru_cache(maxsize=4)
def epoch_order(num: int, seed: int, epoch: int) -> tuple[int, ...]:
    """Return the order in which `num` rows are drawn in an epoch: a permutation by seed and epoch.

    It needs no state, so a resumed run draws the same rows.
    """
    return tuple(torch.randperm(num, generator=generator(seed, epoch)).tolist())


def generator(*parts: object) -> torch.Generator:
    """Return a random generator seeded by what it is for."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def mixed_rows(nums: Sequence[int], weights: Sequence[float], seed: int) -> list[list[int]]:
    """Return how often, and which, rows of each source make an epoch: row numbers, repeated where they come again.

    Source i holds weights[i] / sum(weights) of the epoch, which is as short as it can be with no row of any source left
    out. So one source comes once, and the others are repeated: whole, and a last part of them drawn by the seed.
    """
    scale = max(num / weight for num, weight in zip(nums, weights, strict=True))
    drawn: list[list[int]] = []
    for source, (num, weight) in enumerate(zip(nums, weights, strict=True)):
        times, rest = divmod(max(round(scale * weight), num), num)
        part = torch.randperm(num, generator=generator(seed, "mixture", source))[:rest]
        drawn.append(list(range(num)) * times + sorted(part.tolist()))
    return drawn
