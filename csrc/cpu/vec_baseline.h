// 8 floats in plain loops, for every compiler and processor: what the compiler makes vectors of is up to it.
#pragma once

#include <string.h>

#include "cpu/isa.h"

namespace alignlab::ALIGNLAB_ISA {

struct Mask {
  bool v[8];
};

struct Vec {
  static constexpr int64_t kSize = 8;
  static constexpr int64_t kBlock = 4;
  float v[8];
};

template <typename F>
ALIGNLAB_MATH Vec each(F f) {
  Vec out;
  for (int64_t i = 0; i < Vec::kSize; ++i) {
    out.v[i] = f(i);
  }
  return out;
}

template <typename F>
ALIGNLAB_MATH Mask each_mask(F f) {
  Mask out;
  for (int64_t i = 0; i < Vec::kSize; ++i) {
    out.v[i] = f(i);
  }
  return out;
}

ALIGNLAB_MATH Vec set(float x) { return each([&](int64_t) { return x; }); }
ALIGNLAB_MATH Vec operator+(const Vec& a, const Vec& b) { return each([&](int64_t i) { return a.v[i] + b.v[i]; }); }
ALIGNLAB_MATH Vec operator-(const Vec& a, const Vec& b) { return each([&](int64_t i) { return a.v[i] - b.v[i]; }); }
ALIGNLAB_MATH Vec operator*(const Vec& a, const Vec& b) { return each([&](int64_t i) { return a.v[i] * b.v[i]; }); }
// Two roundings where there is no instruction for it: the function of libm would take longer than all the rest.
ALIGNLAB_MATH Vec fma(const Vec& a, const Vec& b, const Vec& c) {
  return each([&](int64_t i) { return a.v[i] * b.v[i] + c.v[i]; });
}
// A NaN in b comes through.
ALIGNLAB_MATH Vec max(const Vec& a, const Vec& b) { return each([&](int64_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
ALIGNLAB_MATH Vec min(const Vec& a, const Vec& b) { return each([&](int64_t i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }

ALIGNLAB_MATH Mask operator>(const Vec& a, const Vec& b) { return each_mask([&](int64_t i) { return a.v[i] > b.v[i]; }); }
ALIGNLAB_MATH Mask operator&(const Mask& a, const Mask& b) { return each_mask([&](int64_t i) { return a.v[i] && b.v[i]; }); }
ALIGNLAB_MATH Mask operator|(const Mask& a, const Mask& b) { return each_mask([&](int64_t i) { return a.v[i] || b.v[i]; }); }
ALIGNLAB_MATH int64_t count(const Mask& m) {
  int64_t found = 0;
  for (int64_t i = 0; i < Vec::kSize; ++i) {
    found += m.v[i];
  }
  return found;
}
ALIGNLAB_MATH bool any(const Mask& m) { return count(m) > 0; }
ALIGNLAB_MATH bool all(const Mask& m) { return count(m) == Vec::kSize; }
ALIGNLAB_MATH Vec select(const Mask& m, const Vec& a, const Vec& b) {
  return each([&](int64_t i) { return m.v[i] ? a.v[i] : b.v[i]; });
}
ALIGNLAB_MATH Vec zero_unless(const Mask& m, const Vec& a) { return select(m, a, set(0)); }

template <typename To, typename From>
ALIGNLAB_MATH To bits_of(From x) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To out;
  memcpy(&out, &x, sizeof(To));
  return out;
}

// p * 2^n for whole numbers n; below 2^-126 it is 0.
ALIGNLAB_MATH Vec scale_by_power_of_2(const Vec& p, const Vec& n) {
  return each([&](int64_t i) {
    const float exponent = n.v[i] > -127 ? (n.v[i] < 127 ? n.v[i] : 127) : -127;  // a NaN ends in p, which is one too
    return p.v[i] * bits_of<float>((static_cast<int32_t>(exponent) + 127) << 23);
  });
}

ALIGNLAB_MATH Vec load(const float* p) { return each([&](int64_t i) { return p[i]; }); }
ALIGNLAB_MATH Mask load(const bool* p) { return each_mask([&](int64_t i) { return p[i]; }); }
ALIGNLAB_MATH void store(float* p, const Vec& a) {
  for (int64_t i = 0; i < Vec::kSize; ++i) {
    p[i] = a.v[i];
  }
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

ALIGNLAB_MATH void narrow(float x, BFloat16& out) {
  const uint32_t bits = bits_of<uint32_t>(x);
  out.bits = x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

ALIGNLAB_MATH void narrow(float x, Half& out) {
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
  out.bits = static_cast<uint16_t>(half | sign);
}

template <typename T>
ALIGNLAB_MATH Vec load_one(const T* p) { return each([&](int64_t i) { return widen(p[i]); }); }

template <typename T>
ALIGNLAB_MATH void load_pair(const T* p, Vec& a, Vec& b) {
  a = each([&](int64_t i) { return widen(p[i]); });
  b = each([&](int64_t i) { return widen(p[i + Vec::kSize]); });
}

template <typename T>
ALIGNLAB_MATH void store_pair(T* p, const Vec& a, const Vec& b) {
  for (int64_t i = 0; i < Vec::kSize; ++i) {
    narrow(a.v[i], p[i]);
    narrow(b.v[i], p[i + Vec::kSize]);
  }
}

template <typename T>
ALIGNLAB_MATH void stream_pair(T* p, const Vec& a, const Vec& b) { store_pair(p, a, b); }
ALIGNLAB_MATH void stream(float* p, const Vec& a) { store(p, a); }
ALIGNLAB_MATH void fence() {}

ALIGNLAB_MATH float reduce_add(const Vec& a) {
  return ((a.v[0] + a.v[4]) + (a.v[2] + a.v[6])) + ((a.v[1] + a.v[5]) + (a.v[3] + a.v[7]));
}
ALIGNLAB_MATH float reduce_max(const Vec& a) {
  float top = a.v[0];
  for (int64_t i = 1; i < Vec::kSize; ++i) {
    top = top > a.v[i] ? top : a.v[i];
  }
  return top;
}
ALIGNLAB_MATH float first(const Vec& a) { return a.v[0]; }

// Element i of the result is element i + kBy of a, and then the first of `after`.
template <int kBy>
ALIGNLAB_MATH Vec shift(const Vec& a, const Vec& after) {
  return each([&](int64_t i) { return i + kBy < Vec::kSize ? a.v[i + kBy] : after.v[i + kBy - Vec::kSize]; });
}

}  // namespace alignlab::ALIGNLAB_ISA
