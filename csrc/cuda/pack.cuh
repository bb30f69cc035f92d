// Rows in accesses of 16 bytes: a pack holds 4 floats, or 8 numbers of 16 bits.
#pragma once

#include <cstring>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "arguments.h"
#include "math/portable.h"

namespace alignlab::cuda {

using BFloat16 = c10::BFloat16;
using Half = c10::Half;

struct alignas(16) Pack {
  uint32_t words[4];
};

template <typename T>
constexpr int64_t kPerPack = 16 / sizeof(T);

ALIGNLAB_MATH float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

ALIGNLAB_MATH uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}
ALIGNLAB_MATH uint32_t bits_of(BFloat16 x) { return x.x; }
ALIGNLAB_MATH uint32_t bits_of(Half x) { return x.x; }

// Element i of a pack, in fp32. `i` is a constant after unrolling.
ALIGNLAB_MATH float element(const Pack& pack, int64_t i, float) { return float_of_bits(pack.words[i]); }
ALIGNLAB_MATH float element(const Pack& pack, int64_t i, BFloat16) {
  const uint32_t word = pack.words[i / 2];
  return float_of_bits(i % 2 ? word & 0xffff0000u : word << 16);
}
ALIGNLAB_MATH float element(const Pack& pack, int64_t i, Half) {
  const uint32_t word = pack.words[i / 2];
  return Half(static_cast<uint16_t>(i % 2 ? word >> 16 : word & 0xffffu), Half::from_bits());
}

template <typename T>
ALIGNLAB_MATH void put(Pack& pack, int64_t i, T x) {
  if constexpr (sizeof(T) == 4) {
    pack.words[i] = bits_of(x);
  } else {
    pack.words[i / 2] = i % 2 ? pack.words[i / 2] | bits_of(x) << 16 : bits_of(x);
  }
}

template <typename T>
ALIGNLAB_MATH bool is_aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % sizeof(Pack) == 0;
}

// A whole pack, from anywhere.
template <typename T>
ALIGNLAB_MATH Pack load_pack(const T* p, bool aligned) {
  if (aligned) {
    return *reinterpret_cast<const Pack*>(p);
  }
  Pack pack;
#pragma unroll
  for (int64_t i = 0; i < kPerPack<T>; ++i) {
    put(pack, i, p[i]);
  }
  return pack;
}

ALIGNLAB_MATH void store_whole(void* p, const Pack& pack) {
#ifdef __CUDA_ARCH__
  // An assignment would be split into smaller stores where the compiler sees the words come from different branches.
  __stwb(static_cast<uint4*>(p), make_uint4(pack.words[0], pack.words[1], pack.words[2], pack.words[3]));
#else
  *static_cast<Pack*>(p) = pack;
#endif
}

template <typename T>
ALIGNLAB_MATH void store_pack(T* p, bool aligned, const float (&x)[kPerPack<T>]) {
  if (aligned) {
    Pack pack;
#pragma unroll
    for (int64_t i = 0; i < kPerPack<T>; ++i) {
      put(pack, i, static_cast<T>(x[i]));
    }
    store_whole(p, pack);
  } else {
#pragma unroll
    for (int64_t i = 0; i < kPerPack<T>; ++i) {
      p[i] = static_cast<T>(x[i]);
    }
  }
}

// A row of n elements as `head` elements before the first boundary of 16 bytes, packs, and fewer elements than a pack.
struct Span {
  int64_t head;
  int64_t num_packs;
  int64_t tail;  // where it begins
};

template <typename T>
ALIGNLAB_MATH Span span_of(const T* p, int64_t n) {
  const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) % sizeof(Pack) / sizeof(T));
  const int64_t to_boundary = past ? kPerPack<T> - past : 0;
  const int64_t head = to_boundary < n ? to_boundary : n;
  const int64_t num_packs = (n - head) / kPerPack<T>;
  return {head, num_packs, head + num_packs * kPerPack<T>};
}

// Whether both rows have their boundaries at the same elements.
template <typename T>
ALIGNLAB_MATH bool same_boundaries(const T* a, const T* b) {
  return reinterpret_cast<uintptr_t>(a) % sizeof(Pack) == reinterpret_cast<uintptr_t>(b) % sizeof(Pack);
}

// On the host: call f(T{}) with the type that lies in memory.
template <typename F>
void with_storage(Storage storage, const F& f) {
  switch (storage) {
    case Storage::kFloat:
      return f(float{});
    case Storage::kBFloat16:
      return f(BFloat16(0, BFloat16::from_bits()));
    case Storage::kHalf:
      return f(Half(0, Half::from_bits()));
  }
}

}  // namespace alignlab::cuda
