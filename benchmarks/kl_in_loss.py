"""Where PPO ends with k2 of each token in the loss, exactly: no training, a backward recursion over all answers.

The gradient of k2 weighs a token's log-prob with its own log-ratio alone. It is 0 where every token is drawn with
pi_ref(token) exp(Q(token) / beta), Q the expected reward under the policy itself; the optimum of the whole objective
has the KL of later tokens in Q too. The reference is the world's demonstrations.
"""

import torch

from alignlab.certify.exact import gain_share, kl_optimum
from alignlab.certify.world import World, WorldSize


def levels(table, num, longest):
    """Split [P, A] into a table for each length, [P, num^length]."""
    return list(table.split([num**length for length in range(1, longest + 1)], dim=1))


def fixed_point(world, beta):
    num, longest, num_prompts = world.size.num_letters, world.size.max_letters, len(world.prompts)
    ended, rewards = (levels(t, num, longest) for t in (world.demonstrations.exp(), world.rewards))
    mass = [ended[-1]]  # of all answers that begin with a word, from the longest words to the empty one
    for length in range(longest - 1, -1, -1):
        below = mass[0].view(num_prompts, num**length, num).sum(-1)
        mass.insert(0, below + ended[length - 1] if length else below)
    value, chosen = rewards[-1], {}
    for length in range(longest - 1, -1, -1):
        q, ref = value.view(num_prompts, -1, num), mass[length + 1].view(num_prompts, -1, num)
        if length:
            q = torch.cat([q, rewards[length - 1][..., None]], -1)
            ref = torch.cat([ref, ended[length - 1][..., None]], -1)
        chosen[length] = ((ref / mass[length][..., None]).log() + q / beta).log_softmax(-1)
        value = (chosen[length].exp() * q).sum(-1)
    before, found = torch.zeros(num_prompts, 1, dtype=torch.float64), []
    for length in range(longest):
        if length:
            found.append(before + chosen[length][..., -1])
        before = (before[..., None] + chosen[length][..., :num]).flatten(1)
    return torch.cat([*found, before], 1)


def main():
    for letters in (1, 2, 3, 4):
        shares = []
        for seed in range(5):
            world = World(WorldSize(seed=seed, max_letters=letters))
            best = kl_optimum(world.demonstrations, world.rewards, 1.0)
            shares.append(gain_share(fixed_point(world, 1.0), world.demonstrations, best))
        print(f"{letters} letters: {sum(shares) / 5:.1%} of the gain, {min(shares):.1%} to {max(shares):.1%}")


if __name__ == "__main__":
    main()
