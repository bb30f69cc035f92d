// token_logp: a row a time, one pass forward and one backward.
#pragma once

#include "cpu/loops/map_row.h"
#include "cpu/loops/softmax.h"
#include "math/token_logp.h"

namespace alignlab::ALIGNLAB_ISA {

template <typename T, bool kEntropy>
void token_logp_rows(const TokenLogp& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.logits) + a.rows.offset(row);
    const Softmax softmax = run_over_row<kEntropy>(x, a.vocab, a.inverse_temperature).finish();
    a.max[row] = softmax.max;
    a.log_sum[row] = softmax.log_sum;
    const Vec logit = set(widen_one(x[a.tokens[row]]));
    a.logp[row] = first(logp_of(logit, set(a.inverse_temperature), set(softmax.max), set(softmax.log_sum)));
    if (kEntropy) {
      a.entropy[row] = softmax.log_sum - softmax.mean;
    }
  }
}

void token_logp(const TokenLogp& a, int64_t begin, int64_t end) {
  with_storage(a.storage, [&](auto type) {
    using T = decltype(type);
    a.entropy ? token_logp_rows<T, true>(a, begin, end) : token_logp_rows<T, false>(a, begin, end);
  });
}

template <bool kEntropy>
struct TokenLogpGradient {
  Vec scale;
  Vec max;
  LogpGradient<Vec> row;

  ALIGNLAB_MATH Vec of(Vec x) const {
    const Vec z = fma(x, scale, -max);
    const Vec e = exp(z);
    return kEntropy ? e * fma(row.slope, alignlab::ALIGNLAB_ISA::max(set(-110.0f), z), row.offset) : e * row.offset;
  }
  ALIGNLAB_MATH void operator()(const Vec (&x)[1], Vec (&grad)[1]) const {
    grad[0] = of(x[0]);
  }
};

template <typename T>
ALIGNLAB_MATH void store_one(T* p, float x) {
  store_some(p, 1, set(x), set(x));
}

template <typename T, bool kEntropy>
void token_logp_backward_rows(const TokenLogpBackward& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.logits) + a.rows.offset(row);
    T* grad = static_cast<T*>(a.grad_logits) + a.grad_rows.offset(row);
    const float grad_logp = a.grad_logp ? a.grad_logp[row] : 0;
    const float grad_entropy = kEntropy ? a.grad_entropy[row] : 0;
    const float entropy = kEntropy ? a.entropy[row] : 0;
    const float inverse_sum = __builtin_expf(-a.log_sum[row]);
    const LogpGradient<float> part =
        logp_gradient(grad_logp, grad_entropy, entropy, a.log_sum[row], inverse_sum, a.inverse_temperature);
    const TokenLogpGradient<kEntropy> gradient{
        set(a.inverse_temperature), set(a.max[row]), {set(part.slope), set(part.offset)}};
    // Before the row is written over: the token's own share is added in fp32, and rounded once.
    const int64_t token = a.tokens[row] - a.first_token;
    const bool is_here = token >= 0 && token < a.vocab;
    const float drawn =
        is_here ? first(gradient.of(set(widen_one(x[token])))) + grad_logp * a.inverse_temperature : 0;
    map_row<1, T>({x}, {grad}, a.vocab, a.stream, gradient);
    if (is_here) {
      store_one(grad + token, drawn);
    }
  }
  if (a.stream) {
    fence();
  }
}

void token_logp_backward(const TokenLogpBackward& a, int64_t begin, int64_t end) {
  with_storage(a.storage, [&](auto type) {
    using T = decltype(type);
    a.grad_entropy ? token_logp_backward_rows<T, true>(a, begin, end)
                   : token_logp_backward_rows<T, false>(a, begin, end);
  });
}

}  // namespace alignlab::ALIGNLAB_ISA
