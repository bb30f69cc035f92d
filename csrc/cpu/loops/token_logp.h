// token_logp: a row a time, one pass forward and one backward.
#pragma once

#include "cpu/loops/softmax.h"
#include "math/token_logp.h"

namespace alignlab::ALIGNLAB_ISA {

template <typename T, bool kEntropy>
void token_logp_rows(const TokenLogp& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.logits) + a.rows.offset(row);
    const Softmax softmax = softmax_of_row<kEntropy>(x, a.vocab, a.inverse_temperature);
    a.max[row] = softmax.max;
    a.log_sum[row] = softmax.log_sum;
    a.logp[row] = logp_of(widen_one(x[a.tokens[row]]) * a.inverse_temperature, softmax.max, softmax.log_sum);
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

  ALIGNLAB_MATH Vec operator()(Vec x) const {
    const Vec z = fma(x, scale, set(0) - max);
    const Vec e = exp(z);
    return kEntropy ? e * fma(row.slope, alignlab::ALIGNLAB_ISA::max(set(-110.0f), z), row.offset) : e * row.offset;
  }
};

// grad may be x.
template <typename T, typename Gradient>
ALIGNLAB_MATH void map_row(const T* x, T* grad, int64_t n, bool stream, const Gradient& gradient) {
  int64_t i = 0;
  const auto part = [&](int64_t count) {
    Vec a, b;
    load_tail(x + i, count, T{}, a, b);
    store_tail(grad + i, count, gradient(a), gradient(b));
    i += count;
  };
  if (stream) {
    constexpr uint64_t kAlignment = 64;
    const uint64_t past = reinterpret_cast<uint64_t>(grad) % kAlignment / sizeof(T);
    int64_t head = past ? static_cast<int64_t>(kAlignment / sizeof(T) - past) : 0;
    for (head = head < n ? head : n; head > 0; head -= kPair) {
      part(head < kPair ? head : kPair);
    }
    for (; i + kPair <= n; i += kPair) {
      Vec a, b;
      load_pair(x + i, a, b);
      stream_pair(grad + i, gradient(a), gradient(b));
    }
  } else {
    for (; i + kPair <= n; i += kPair) {
      Vec a, b;
      load_pair(x + i, a, b);
      store_pair(grad + i, gradient(a), gradient(b));
    }
  }
  if (i < n) {
    part(n - i);
  }
}

template <typename T>
ALIGNLAB_MATH void store_one(T* p, float x) {
  store_tail(p, 1, set(x), set(x));
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
    const int64_t token = a.tokens[row];
    const float drawn = first(gradient(set(widen_one(x[token])))) + grad_logp * a.inverse_temperature;
    map_row(x, grad, a.vocab, a.stream, gradient);
    store_one(grad + token, drawn);
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
