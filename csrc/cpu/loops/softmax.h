// One pass over a row of logits: max, sum of exp, and the mean that the entropy needs.
#pragma once

#include "cpu/loops/storage.h"

namespace alignlab::ALIGNLAB_ISA {

// Of z = logits / temperature: the largest, log sum exp(z - max), and sum p * (z - max).
struct Softmax {
  float max;
  float log_sum;
  float mean;
};

// Running sums of every lane on its own, relative to a `base` that follows the lane's maximum: exp(z - base) may grow to
// exp(kSlack) before the base moves, so that it moves a few times a row and not with every new maximum.
template <bool kMean>
struct RunningSoftmax {
  static constexpr float kSlack = 8;

  Vec scale;
  Vec top = set(kLowest);   // of the logits as they are
  Vec base = set(kLowest);  // of z; finite even while all that came is -inf, so that -inf - base is no NaN
  Vec sum = set(0);
  Vec mean = set(0);  // of exp(z - base) * (z - base)

  ALIGNLAB_MATH explicit RunningSoftmax(float inverse_temperature) : scale(set(inverse_temperature)) {}

  ALIGNLAB_MATH void rebase(Vec to) {
    const Vec gap = max(set(kLowest), base - to);
    const Vec factor = exp(gap);
    if (kMean) {
      mean = fma(sum, max(set(-1e30f), gap), mean) * factor;
    }
    sum = sum * factor;
    base = to;
  }

  // Take in the maximum, and return what the base would be moved to.
  template <int64_t kCount>
  ALIGNLAB_MATH Vec track(const Vec (&x)[kCount]) {
    Vec tops[kCount];
    for (int64_t i = 0; i < kCount; ++i) {
      tops[i] = x[i];
    }
    for (int64_t half = kCount / 2; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) {
        tops[i] = max(tops[i], tops[i + half]);
      }
    }
    top = max(top, tops[0]);
    return max(set(kLowest), top * scale);
  }

  template <int64_t kCount>
  ALIGNLAB_MATH void add(const Vec (&x)[kCount]) {
    const Vec scaled = track(x);
    if (any(scaled > base + set(kSlack))) {
      rebase(scaled);
    }
    Vec sums[2] = {set(0), set(0)};
    Vec means[2] = {set(0), set(0)};
    for (int64_t i = 0; i < kCount; ++i) {
      const Vec z = fma(x[i], scale, -base);
      const Vec e = exp(z);
      sums[i % 2] = sums[i % 2] + e;
      if (kMean) {
        means[i % 2] = fma(e, max(set(-110.0f), z), means[i % 2]);  // 0 * -inf would be NaN
      }
    }
    sum = sum + (sums[0] + sums[1]);
    if (kMean) {
      mean = mean + (means[0] + means[1]);
    }
  }

  // The largest z of all lanes.
  ALIGNLAB_MATH float largest() const {
    return reduce_max(max(set(kLowest), top * scale));
  }

  // All lanes together.
  ALIGNLAB_MATH Softmax finish() {
    const float to = largest();
    rebase(set(to));
    const float total = reduce_add(sum);
    // A row of nothing but -inf is no distribution.
    const float log_sum = total > 0 ? __builtin_logf(total) : __builtin_nanf("");
    return {to, log_sum, kMean ? reduce_add(mean) / total : 0};
  }
};

template <bool kMean, typename T>
ALIGNLAB_MATH RunningSoftmax<kMean> run_over_row(const T* x, int64_t n, float inverse_temperature) {
  RunningSoftmax<kMean> running(inverse_temperature);
  constexpr int64_t kBlock = Vec::kBlock * Vec::kSize;
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    Vec block[Vec::kBlock];
    prefetch<kBlock>(x + i);
    for (int64_t pair = 0; pair < Vec::kBlock; pair += 2) {
      load_pair(x + i + pair * Vec::kSize, block[pair], block[pair + 1]);
    }
    running.add(block);
  }
  for (; i < n; i += kPair) {
    Vec pair[2];
    load_some(x + i, n - i, Fill<T>::kMinusInfinity, pair[0], pair[1]);
    running.add(pair);
  }
  return running;
}

}  // namespace alignlab::ALIGNLAB_ISA
