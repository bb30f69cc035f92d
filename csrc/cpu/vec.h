// Vec: as many fp32 numbers as a register of this translation unit's instruction set holds, with exp and expm1.
#pragma once

#include "cpu/isa.h"

namespace alignlab {

// 16-bit floats as they lie in memory. torch's own types are not used here: see isa.h.
struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

}  // namespace alignlab

#if defined(ALIGNLAB_AVX512)
#include "cpu/vec_avx512.h"
#elif defined(ALIGNLAB_AVX2)
#include "cpu/vec_avx2.h"
#else
#include "cpu/vec_baseline.h"
#endif

namespace alignlab::ALIGNLAB_ISA {

constexpr float kLowest = -3.402823466e38f;
constexpr float kInfinity = __builtin_huge_valf();
constexpr int64_t kPair = 2 * Vec::kSize;

ALIGNLAB_MATH Vec load_one(const float* p) { return load(p); }
ALIGNLAB_MATH void load_pair(const float* p, Vec& a, Vec& b) {
  a = load(p);
  b = load(p + Vec::kSize);
}
ALIGNLAB_MATH void store_pair(float* p, Vec a, Vec b) {
  store(p, a);
  store(p + Vec::kSize, b);
}
ALIGNLAB_MATH void stream_pair(float* p, Vec a, Vec b) {
  stream(p, a);
  stream(p + Vec::kSize, b);
}

// x = n * ln 2 + r with whole n and |r| <= ln 2 / 2. Below -110 (exp is 0 there in fp32) x is taken for -110, so that
// -inf stays a number. The constant of ln 2 is one float: off by n * 2e-9, which is below half an ulp down to exp(-20).
struct Reduced {
  Vec n;
  Vec r;
};
ALIGNLAB_MATH Reduced reduce(Vec x) {
  const Vec magic = set(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const Vec clamped = max(set(-110.0f), x);
  const Vec n = fma(clamped, set(1.44269504f), magic) - magic;
  return {n, fma(n, set(-0.693147182f), clamped)};
}

// exp of x up to 88, within 2 ulp, and 0 below 2^-149 (or already below 2^-126). A NaN stays one.
ALIGNLAB_MATH Vec exp(Vec x) {
  const Reduced y = reduce(x);
  Vec p = fma(set(0.008312501f), y.r, set(0.04189033f));  // minimax, relative error 1.05e-7
  p = fma(p, y.r, set(0.16667116f));
  p = fma(p, y.r, set(0.4999923f));
  p = fma(p, y.r, set(1.0f));
  p = fma(p, y.r, set(1.0f));
  return scale_by_power_of_2(p, y.n);
}

// exp(x) - 1 of x up to 88, without cancellation near 0.
ALIGNLAB_MATH Vec expm1(Vec x) {
  const Reduced y = reduce(x);
  Vec q = fma(set(0.001381454f), y.r, set(0.008368745f));  // minimax, relative error 3e-9
  q = fma(q, y.r, set(0.041668389f));
  q = fma(q, y.r, set(0.166665211f));
  q = fma(q, y.r, set(0.49999994f));
  const Vec small = fma(y.r * y.r, q, y.r);
  const Vec power = scale_by_power_of_2(set(1.0f), y.n);
  return fma(power, small, power - set(1.0f));
}

// As load_pair and store_pair where only n elements may be left of the row; what is missing is filled up.
template <typename T>
ALIGNLAB_MATH void load_some(const T* p, int64_t n, T fill, Vec& a, Vec& b) {
  if (n >= kPair) {
    load_pair(p, a, b);
    return;
  }
  T buffer[kPair];
  for (int64_t i = 0; i < kPair; ++i) {
    buffer[i] = i < n ? p[i] : fill;
  }
  load_pair(buffer, a, b);
}

template <typename T>
ALIGNLAB_MATH void store_some(T* p, int64_t n, Vec a, Vec b) {
  if (n >= kPair) {
    store_pair(p, a, b);
    return;
  }
  T buffer[kPair];
  store_pair(buffer, a, b);
  for (int64_t i = 0; i < n; ++i) {
    p[i] = buffer[i];
  }
}

ALIGNLAB_MATH float widen_one(float x) { return x; }
template <typename T>
ALIGNLAB_MATH float widen_one(T x) {
  Vec a, b;
  load_some(&x, 1, T{0}, a, b);
  return first(a);
}

template <typename T>
struct Fill;  // constants as they are stored
template <>
struct Fill<float> {
  static constexpr float kMinusInfinity = -__builtin_huge_valf();
};
template <>
struct Fill<BFloat16> {
  static constexpr BFloat16 kMinusInfinity{0xff80};
};
template <>
struct Fill<Half> {
  static constexpr Half kMinusInfinity{0xfc00};
};

}  // namespace alignlab::ALIGNLAB_ISA
