// ppo_policy_loss: loss, metrics and gradient in one pass; sums chunk by chunk.
#pragma once

#include "cpu/loops/elements.h"
#include "math/ppo_policy_loss.h"

namespace alignlab::ALIGNLAB_ISA {

void ppo_policy_loss(const PpoPolicyLoss& a, int64_t begin, int64_t end) {
  const PolicyClip clip{a.low, a.high, a.dual};
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    Vec total = set(0);
    Vec kl = set(0);
    int64_t num_clipped = 0;
    int64_t num_dual_clipped = 0;
    int64_t num_kept = 0;
    for_blocks<3>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        const Mask kept = load(block.mask + i);
        const Vec log_ratio = zero_unless(kept, block.load_column(0, i) - block.load_column(1, i));
        const auto term = policy_term(log_ratio, block.load_kept(2, i), clip);
        total = total + term.loss;
        kl = kl + term.kl;
        num_clipped += count(term.is_clipped);
        num_dual_clipped += count(term.is_dual_clipped);
        num_kept += count(kept);
        if (a.gradient) {
          block.store_out(a.gradient, i, zero_unless(kept, term.gradient));
        }
      }
    });
    double* partial = a.partials + chunk * kPolicyPartials;
    partial[0] = reduce_add(total);
    partial[1] = static_cast<double>(num_clipped);
    partial[2] = static_cast<double>(num_dual_clipped);
    partial[3] = reduce_add(kl);
    partial[4] = static_cast<double>(num_kept);
  }
}

}  // namespace alignlab::ALIGNLAB_ISA
