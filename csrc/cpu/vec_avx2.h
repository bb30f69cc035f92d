// 8 floats in a register of AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include "cpu/isa.h"

namespace alignlab::ALIGNLAB_ISA {

struct Mask {
  __m256 v;  // all bits of an element, or none
};

struct Vec {
  static constexpr int64_t kSize = 8;
  static constexpr int64_t kBlock = 4;  // how many of the 16 registers a loop may hold data in
  __m256 v;

  Vec() = default;
  ALIGNLAB_MATH Vec(__m256 raw) : v(raw) {}
  ALIGNLAB_MATH explicit Vec(float x) : v(_mm256_set1_ps(x)) {}
};

ALIGNLAB_MATH Vec set(float x) { return Vec(x); }
ALIGNLAB_MATH Vec operator-(Vec a) { return {_mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f))}; }
ALIGNLAB_MATH Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// A NaN in b comes through.
ALIGNLAB_MATH Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }

ALIGNLAB_MATH Mask operator>(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
ALIGNLAB_MATH Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.v, b.v)}; }
ALIGNLAB_MATH Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
ALIGNLAB_MATH bool any(Mask m) { return _mm256_movemask_ps(m.v) != 0; }
ALIGNLAB_MATH bool all(Mask m) { return _mm256_movemask_ps(m.v) == 0xff; }
ALIGNLAB_MATH int64_t count(Mask m) { return __builtin_popcount(_mm256_movemask_ps(m.v)); }
ALIGNLAB_MATH Vec select(Mask m, Vec a, Vec b) { return {_mm256_blendv_ps(b.v, a.v, m.v)}; }
ALIGNLAB_MATH Vec zero_unless(Mask m, Vec a) { return {_mm256_and_ps(m.v, a.v)}; }

// p * 2^n for whole numbers n; below 2^-126 it is 0.
ALIGNLAB_MATH Vec scale_by_power_of_2(Vec p, Vec n) {
  const __m256i exponent = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(127), n.v));
  const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23);
  const __m256 scaled = _mm256_mul_ps(p.v, _mm256_castsi256_ps(power));
  return {_mm256_andnot_ps(_mm256_cmp_ps(n.v, _mm256_set1_ps(-126), _CMP_LT_OQ), scaled)};
}

ALIGNLAB_MATH Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
ALIGNLAB_MATH void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
ALIGNLAB_MATH Mask load(const bool* p) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, _mm256_setzero_si256()))};
}

// Two vectors of 16-bit floats at a time. bf16 goes in and out in the order even, odd: a shift and a mask, no shuffle.
ALIGNLAB_MATH void load_pair(const BFloat16* p, Vec& a, Vec& b) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  a.v = _mm256_castsi256_ps(_mm256_slli_epi32(raw, 16));
  b.v = _mm256_castsi256_ps(_mm256_and_si256(raw, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

// Round to nearest even, in the upper 16 bits. A NaN stays one.
ALIGNLAB_MATH __m256i round_to_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
  return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), quiet, nan));
}

ALIGNLAB_MATH __m256i pack(const BFloat16*, Vec a, Vec b) {
  const __m256i low = _mm256_srli_epi32(round_to_bf16(a.v), 16);
  return _mm256_blend_epi16(low, round_to_bf16(b.v), 0xaa);
}

ALIGNLAB_MATH void load_pair(const Half* p, Vec& a, Vec& b) {
  a.v = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  b.v = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + 1));
}

ALIGNLAB_MATH __m256i pack(const Half*, Vec a, Vec b) {
  const __m128i low = _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT);
  const __m128i high = _mm256_cvtps_ph(b.v, _MM_FROUND_TO_NEAREST_INT);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// One vector in the order of memory.
ALIGNLAB_MATH Vec load_one(const BFloat16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
}
ALIGNLAB_MATH Vec load_one(const Half* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}

template <typename T>
ALIGNLAB_MATH void store_pair(T* p, Vec a, Vec b) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), pack(p, a, b));
}

// Past the caches, for what is written once and not read soon; p is aligned to 32 bytes.
template <typename T>
ALIGNLAB_MATH void stream_pair(T* p, Vec a, Vec b) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), pack(p, a, b));
}
ALIGNLAB_MATH void stream(float* p, Vec a) { _mm256_stream_ps(p, a.v); }
ALIGNLAB_MATH void fence() { _mm_sfence(); }

ALIGNLAB_MATH float reduce_add(Vec a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
ALIGNLAB_MATH float reduce_max(Vec a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
ALIGNLAB_MATH float first(Vec a) { return _mm256_cvtss_f32(a.v); }

// Element i of the result is element i + kBy of a, and then the first of `after`.
template <int kBy>
ALIGNLAB_MATH Vec shift(Vec a, Vec after) {
  static_assert(kBy == 1 || kBy == 2 || kBy == 4, "one of the steps of a scan");
  const __m256 middle = _mm256_permute2f128_ps(a.v, after.v, 0x21);  // a's upper half, after's lower half
  if (kBy == 4) {
    return {middle};
  }
  return {_mm256_castsi256_ps(_mm256_alignr_epi8(
      _mm256_castps_si256(middle), _mm256_castps_si256(a.v), kBy == 4 ? 0 : 4 * kBy))};
}

}  // namespace alignlab::ALIGNLAB_ISA
