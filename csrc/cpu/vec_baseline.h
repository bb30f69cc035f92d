// 4 floats in the vector extension of GCC and Clang: what every processor that they compile for has (SSE2, NEON).
#pragma once

#include <string.h>

#include "cpu/isa.h"

namespace alignlab::ALIGNLAB_ISA {

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));

struct Mask {
  Ints v;  // all bits of an element, or none
};

struct Vec {
  static constexpr int64_t kSize = 4;
  static constexpr int64_t kBlock = 4;  // how many of the 16 or 32 registers a loop may hold data in
  Floats v;

  Vec() = default;
  ALIGNLAB_MATH Vec(Floats raw) : v(raw) {}
  ALIGNLAB_MATH explicit Vec(float x) : v(Floats{x, x, x, x}) {}
};

template <typename To, typename From>
ALIGNLAB_MATH To bits_of(From x) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To out;
  memcpy(&out, &x, sizeof(To));
  return out;
}
template <typename To>
ALIGNLAB_MATH To read(const void* p) {
  To out;
  memcpy(&out, p, sizeof(To));
  return out;
}

ALIGNLAB_MATH Vec set(float x) { return Vec(x); }
ALIGNLAB_MATH Vec operator-(Vec a) { return {-a.v}; }
ALIGNLAB_MATH Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
ALIGNLAB_MATH Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
ALIGNLAB_MATH Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
// Two roundings where there is no instruction for it: the function of libm would take longer than all the rest.
ALIGNLAB_MATH Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
// A NaN in b comes through.
ALIGNLAB_MATH Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
ALIGNLAB_MATH Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }

ALIGNLAB_MATH Mask operator>(Vec a, Vec b) { return {a.v > b.v}; }
ALIGNLAB_MATH Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
ALIGNLAB_MATH Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
ALIGNLAB_MATH int64_t count(Mask m) { return -(m.v[0] + m.v[1] + m.v[2] + m.v[3]); }
ALIGNLAB_MATH bool any(Mask m) { return count(m) > 0; }
ALIGNLAB_MATH bool all(Mask m) { return count(m) == Vec::kSize; }
ALIGNLAB_MATH Vec select(Mask m, Vec a, Vec b) { return {m.v ? a.v : b.v}; }
ALIGNLAB_MATH Vec zero_unless(Mask m, Vec a) { return {bits_of<Floats>(m.v & bits_of<Ints>(a.v))}; }

// p * 2^n for whole numbers n; below 2^-126 it is 0.
ALIGNLAB_MATH Vec scale_by_power_of_2(Vec p, Vec n) {
  const Vec bounded = min(set(127), select(n > set(-127), n, set(-127)));  // a NaN in n is one in p too
  const Ints power = (__builtin_convertvector(bounded.v, Ints) + 127) << 23;
  return {p.v * bits_of<Floats>(power)};
}

ALIGNLAB_MATH Vec load(const float* p) { return {read<Floats>(p)}; }
ALIGNLAB_MATH void store(float* p, Vec a) { memcpy(p, &a.v, sizeof(a.v)); }
ALIGNLAB_MATH Mask load(const bool* p) { return {Ints{p[0], p[1], p[2], p[3]} != 0}; }

// Two vectors of 16-bit floats at a time. bf16 goes in and out in the order even, odd: a shift and a mask, no shuffle.
ALIGNLAB_MATH void load_pair(const BFloat16* p, Vec& a, Vec& b) {
  const Words raw = read<Words>(p);
  a.v = bits_of<Floats>(raw << 16);
  b.v = bits_of<Floats>(raw & 0xffff0000u);
}

// Round to nearest even, in the upper 16 bits. A NaN stays one.
ALIGNLAB_MATH Words round_to_bf16(Vec x) {
  const Words bits = bits_of<Words>(x.v);
  const Words rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return x.v != x.v ? Words{} + 0x7fc00000u : rounded;
}

ALIGNLAB_MATH void store_pair(BFloat16* p, Vec a, Vec b) {
  const Words packed = (round_to_bf16(a) >> 16) | (round_to_bf16(b) & 0xffff0000u);
  memcpy(p, &packed, sizeof(packed));
}

ALIGNLAB_MATH float widen(BFloat16 x) { return bits_of<float>(static_cast<uint32_t>(x.bits) << 16); }

ALIGNLAB_MATH float widen(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  // Shifted into place the exponent is 112 too small, which a multiplication by 2^112 mends for subnormals too.
  float out = bits_of<float>(magnitude << 13) * bits_of<float>(static_cast<uint32_t>(239) << 23);
  if (magnitude >= 0x7c00u) {
    out = bits_of<float>((magnitude << 13) | 0x7f800000u);  // inf and NaN
  }
  return bits_of<float>(bits_of<uint32_t>(out) | sign);
}

ALIGNLAB_MATH Half narrow(float x) {
  const uint32_t bits = bits_of<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00;
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00;  // what rounds to 65536 or more
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 lets the processor round at the right bit.
    half = bits_of<uint32_t>(bits_of<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  }
  return {static_cast<uint16_t>(half | sign)};
}

// One vector in the order of memory.
template <typename T>
ALIGNLAB_MATH Vec load_one(const T* p) {
  return {Floats{widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])}};
}

ALIGNLAB_MATH void load_pair(const Half* p, Vec& a, Vec& b) {
  a = load_one(p);
  b = load_one(p + Vec::kSize);
}

ALIGNLAB_MATH void store_pair(Half* p, Vec a, Vec b) {
  for (int64_t i = 0; i < Vec::kSize; ++i) {
    p[i] = narrow(a.v[i]);
    p[i + Vec::kSize] = narrow(b.v[i]);
  }
}

template <typename T>
ALIGNLAB_MATH void stream_pair(T* p, Vec a, Vec b) { store_pair(p, a, b); }
ALIGNLAB_MATH void stream(float* p, Vec a) { store(p, a); }
ALIGNLAB_MATH void fence() {}

ALIGNLAB_MATH float reduce_add(Vec a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
ALIGNLAB_MATH float reduce_max(Vec a) {
  const float even = a.v[0] > a.v[2] ? a.v[0] : a.v[2];
  const float odd = a.v[1] > a.v[3] ? a.v[1] : a.v[3];
  return even > odd ? even : odd;
}
ALIGNLAB_MATH float first(Vec a) { return a.v[0]; }

// Element i of the result is element i + kBy of a, and then the first of `after`.
template <int kBy>
ALIGNLAB_MATH Vec shift(Vec a, Vec after) {
  const auto at = [&](int64_t i) { return i < Vec::kSize ? a.v[i] : after.v[i - Vec::kSize]; };
  return {Floats{at(kBy), at(kBy + 1), at(kBy + 2), at(kBy + 3)}};
}

}  // namespace alignlab::ALIGNLAB_ISA
