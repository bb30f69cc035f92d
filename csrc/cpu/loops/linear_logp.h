// linear_logp: the softmax of a chunk of the vocabulary, folded into that of the chunks before it.
#pragma once

#include "cpu/loops/softmax.h"

namespace alignlab::ALIGNLAB_ISA {

template <typename T, bool kMean>
void linear_logp_fold_rows(const LinearLogpFold& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.logits) + a.rows.offset(row);
    RunningSoftmax<kMean> running = run_over_row<kMean>(x, a.size, a.inverse_temperature);
    const float here = running.largest();
    const float largest = here > a.max[row] ? here : a.max[row];
    running.rebase(set(largest));
    const float gap = a.max[row] - largest > kLowest ? a.max[row] - largest : kLowest;
    const float factor = __builtin_expf(gap);
    if (kMean) {
      const float before = a.sum[row] > 0 ? (a.mean[row] + a.sum[row] * gap) * factor : 0;
      a.mean[row] = before + reduce_add(running.mean);
    }
    a.sum[row] = a.sum[row] * factor + reduce_add(running.sum);
    a.max[row] = largest;
    const int64_t token = a.tokens[row] - a.first_token;
    if (token >= 0 && token < a.size) {
      a.drawn[row] = widen_one(x[token]);
    }
  }
}

void linear_logp_fold(const LinearLogpFold& a, int64_t begin, int64_t end) {
  with_storage(a.storage, [&](auto type) {
    using T = decltype(type);
    a.mean ? linear_logp_fold_rows<T, true>(a, begin, end) : linear_logp_fold_rows<T, false>(a, begin, end);
  });
}

}  // namespace alignlab::ALIGNLAB_ISA
