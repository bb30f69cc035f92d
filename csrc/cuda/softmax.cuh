// One pass over a row of logits by a block: max, sum of exp, and the mean that the entropy needs.
#pragma once

#include <math.h>

#include "cuda/block.cuh"
#include "cuda/pack.cuh"
#include "math/portable.h"

namespace alignlab::cuda {

constexpr float kLowest = -3.402823466e38f;
constexpr float kGapOfNothing = -1e30f;  // as good as -inf, but 0 times it is 0
constexpr float kExpIsZero = -110.0f;

// exp(x) for x <= 0 (and not much above), by the special function unit: 2 ulp, and x * 2^-24 more. Subnormals are 0.
ALIGNLAB_MATH float fast_exp(float x) {
  const float exponent = x * 1.4426950408889634f;
#ifdef __CUDA_ARCH__
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(exponent));
  return out;
#else
  return exp2f(exponent);
#endif
}

// Sums over z = logit / temperature relative to a base, the largest z so far. The base is finite even while all that
// came is -inf, so that -inf - base is no NaN.
template <bool kMean>
struct RunningSoftmax {
  float base = kLowest;
  float sum = 0;
  float mean = 0;  // of exp(z - base) * (z - base)

  ALIGNLAB_MATH void rebase(float to) {
    const float gap = fmaxf(base - to, kGapOfNothing);
    const float factor = fast_exp(gap);
    if (kMean) {
      mean = fmaf(sum, gap, mean) * factor;
    }
    sum *= factor;
    base = to;
  }

  template <int64_t kCount>
  ALIGNLAB_MATH void add(const float (&x)[kCount], float scale) {
    float top = x[0];
#pragma unroll
    for (int64_t i = 1; i < kCount; ++i) {
      top = fmaxf(top, x[i]);
    }
    if (top * scale > base) {
      rebase(top * scale);
    }
#pragma unroll
    for (int64_t i = 0; i < kCount; ++i) {
      const float z = fmaf(x[i], scale, -base);
      const float e = fast_exp(z);
      sum += e;
      if (kMean) {
        mean = fmaf(e, fmaxf(z, kExpIsZero), mean);  // 0 * -inf would be NaN
      }
    }
  }

  ALIGNLAB_MATH static RunningSoftmax join(RunningSoftmax a, RunningSoftmax b) {
    const float to = fmaxf(a.base, b.base);
    a.rebase(to);
    b.rebase(to);
    a.sum += b.sum;
    a.mean += b.mean;
    return a;
  }

  // A row of nothing but -inf is no distribution.
  ALIGNLAB_MATH float log_sum() const { return sum > 0 ? logf(sum) : nanf(""); }
};

// All threads' sums over a row, in thread 0.
template <bool kMean, typename T>
__device__ __forceinline__ RunningSoftmax<kMean> run_over_row(const T* x, int64_t n, float scale) {
  constexpr int64_t kLoads = 4;  // on their way at a time
  RunningSoftmax<kMean> running;
  const Span span = span_of(x, n);
  const T* packs = x + span.head;
  const auto add_one = [&](int64_t i) {
    const float one[1] = {static_cast<float>(x[i])};
    running.add(one, scale);
  };
  if (threadIdx.x < span.head) {
    add_one(threadIdx.x);
  }
  for (int64_t first = threadIdx.x; first < span.num_packs; first += kLoads * blockDim.x) {
    Pack loaded[kLoads];
#pragma unroll
    for (int64_t k = 0; k < kLoads; ++k) {
      if (first + k * blockDim.x < span.num_packs) {
        loaded[k] = load_pack(packs + (first + k * blockDim.x) * kPerPack<T>, true);
      }
    }
#pragma unroll
    for (int64_t k = 0; k < kLoads; ++k) {
      if (first + k * blockDim.x < span.num_packs) {
        float values[kPerPack<T>];
#pragma unroll
        for (int64_t i = 0; i < kPerPack<T>; ++i) {
          values[i] = element(loaded[k], i, T{});
        }
        running.add(values, scale);
      }
    }
  }
  if (span.tail + threadIdx.x < n) {
    add_one(span.tail + threadIdx.x);
  }
  return reduce_block(running, RunningSoftmax<kMean>{}, RunningSoftmax<kMean>::join);
}

}  // namespace alignlab::cuda
