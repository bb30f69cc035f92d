// 16 floats in a register of AVX-512 (F, BW, DQ, VL).
#pragma once

#include <immintrin.h>

#include "cpu/isa.h"

namespace alignlab::ALIGNLAB_ISA {

struct Mask {
  __mmask16 bits;
};

struct Vec {
  static constexpr int64_t kSize = 16;
  static constexpr int64_t kBlock = 16;  // how many of the 32 registers a loop may hold data in
  __m512 v;

  Vec() = default;
  ALIGNLAB_MATH Vec(__m512 raw) : v(raw) {}
  ALIGNLAB_MATH explicit Vec(float x) : v(_mm512_set1_ps(x)) {}
};

ALIGNLAB_MATH Vec set(float x) { return Vec(x); }
ALIGNLAB_MATH Vec operator-(Vec a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }
ALIGNLAB_MATH Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// A NaN in b comes through.
ALIGNLAB_MATH Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
ALIGNLAB_MATH Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }

ALIGNLAB_MATH Mask operator>(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
ALIGNLAB_MATH Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.bits & b.bits)}; }
ALIGNLAB_MATH Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.bits | b.bits)}; }
ALIGNLAB_MATH bool any(Mask m) { return m.bits != 0; }
ALIGNLAB_MATH bool all(Mask m) { return m.bits == 0xffff; }
ALIGNLAB_MATH int64_t count(Mask m) { return __builtin_popcount(m.bits); }
ALIGNLAB_MATH Vec select(Mask m, Vec a, Vec b) { return {_mm512_mask_blend_ps(m.bits, b.v, a.v)}; }
ALIGNLAB_MATH Vec zero_unless(Mask m, Vec a) { return {_mm512_maskz_mov_ps(m.bits, a.v)}; }

// p * 2^n for whole numbers n, down to 0 and up to inf.
ALIGNLAB_MATH Vec scale_by_power_of_2(Vec p, Vec n) { return {_mm512_scalef_ps(p.v, n.v)}; }

ALIGNLAB_MATH Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
ALIGNLAB_MATH void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
ALIGNLAB_MATH Mask load(const bool* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm_test_epi8_mask(bytes, bytes)};
}

// Two vectors of 16-bit floats at a time. bf16 goes in and out in the order even, odd: a shift and a mask, no shuffle.
ALIGNLAB_MATH void load_pair(const BFloat16* p, Vec& a, Vec& b) {
  const __m512i raw = _mm512_loadu_si512(p);
  a.v = _mm512_castsi512_ps(_mm512_slli_epi32(raw, 16));
  b.v = _mm512_castsi512_ps(_mm512_and_si512(raw, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// Round to nearest even, in the upper 16 bits. A NaN stays one.
ALIGNLAB_MATH __m512i round_to_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc00000));
}

ALIGNLAB_MATH __m512i pack(const BFloat16*, Vec a, Vec b) {
  const __m512i low = _mm512_srli_epi32(round_to_bf16(a.v), 16);
  return _mm512_mask_blend_epi16(0xaaaaaaaau, low, round_to_bf16(b.v));
}

ALIGNLAB_MATH void load_pair(const Half* p, Vec& a, Vec& b) {
  a.v = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  b.v = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p) + 1));
}

ALIGNLAB_MATH __m512i pack(const Half*, Vec a, Vec b) {
  const __m256i low = _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT);
  const __m256i high = _mm512_cvtps_ph(b.v, _MM_FROUND_TO_NEAREST_INT);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// One vector in the order of memory.
ALIGNLAB_MATH Vec load_one(const BFloat16* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
ALIGNLAB_MATH Vec load_one(const Half* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}

template <typename T>
ALIGNLAB_MATH void store_pair(T* p, Vec a, Vec b) {
  _mm512_storeu_si512(p, pack(p, a, b));
}

// Past the caches, for what is written once and not read soon; p is aligned to 64 bytes.
template <typename T>
ALIGNLAB_MATH void stream_pair(T* p, Vec a, Vec b) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), pack(p, a, b));
}
ALIGNLAB_MATH void stream(float* p, Vec a) { _mm512_stream_ps(p, a.v); }
ALIGNLAB_MATH void fence() { _mm_sfence(); }

ALIGNLAB_MATH float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
ALIGNLAB_MATH float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }
ALIGNLAB_MATH float first(Vec a) { return _mm512_cvtss_f32(a.v); }

// Element i of the result is element i + kBy of a, and then the first of `after`.
template <int kBy>
ALIGNLAB_MATH Vec shift(Vec a, Vec after) {
  return {_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(after.v), _mm512_castps_si512(a.v), kBy))};
}

}  // namespace alignlab::ALIGNLAB_ISA
