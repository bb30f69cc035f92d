// ppo_value_loss: loss, metric and gradient in one pass; sums chunk by chunk.
#pragma once

#include "cpu/loops/elements.h"
#include "math/ppo_value_loss.h"

namespace alignlab::ALIGNLAB_ISA {

void ppo_value_loss(const PpoValueLoss& a, int64_t begin, int64_t end) {
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    Vec total = set(0);
    int64_t num_clipped = 0;
    int64_t num_kept = 0;
    for_blocks<3>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        const Mask kept = load(block.mask + i);
        const auto term = value_term(block.load_kept(0, i), block.load_kept(1, i), block.load_kept(2, i), a.clip);
        total = total + term.loss;
        num_clipped += count(term.is_clipped);
        num_kept += count(kept);
        if (a.gradient) {
          block.store_out(a.gradient, i, term.gradient);
        }
      }
    });
    double* partial = a.partials + chunk * kValuePartials;
    partial[0] = reduce_add(total);
    partial[1] = static_cast<double>(num_clipped);
    partial[2] = static_cast<double>(num_kept);
  }
}

}  // namespace alignlab::ALIGNLAB_ISA
