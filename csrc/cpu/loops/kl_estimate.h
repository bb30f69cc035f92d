// kl_estimate: the estimate and its derivative in one pass.
#pragma once

#include "cpu/loops/elements.h"
#include "math/kl_estimate.h"

namespace alignlab::ALIGNLAB_ISA {

template <KlEstimator kKind>
void kl_estimate_chunks(const KlEstimates& a, int64_t begin, int64_t end) {
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    for_blocks<2>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        const KlEstimate<Vec> found = kl_estimate_of<kKind>(block.load_column(0, i) - block.load_column(1, i));
        block.store_out(a.estimate, i, found.estimate);
        block.store_out(a.derivative, i, found.derivative);
      }
    });
  }
}

void kl_estimate(const KlEstimates& a, int64_t begin, int64_t end) {
  switch (static_cast<KlEstimator>(a.kind)) {
    case KlEstimator::kK1:
      return kl_estimate_chunks<KlEstimator::kK1>(a, begin, end);
    case KlEstimator::kK2:
      return kl_estimate_chunks<KlEstimator::kK2>(a, begin, end);
    case KlEstimator::kK3:
      return kl_estimate_chunks<KlEstimator::kK3>(a, begin, end);
  }
}

}  // namespace alignlab::ALIGNLAB_ISA
