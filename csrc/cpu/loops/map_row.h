// Elementwise maps over rows, from kWidth rows to as many.
#pragma once

#include "cpu/loops/storage.h"

namespace alignlab::ALIGNLAB_ISA {

template <int64_t kWidth, typename T>
struct Pointers {
  T* at[kWidth];
};

// f(inputs, outputs) for every vector of n elements. An output may be its input, and may be null. With `stream`, the
// outputs go past the caches; their rows begin at the same place of a cache line.
template <int64_t kWidth, typename T, typename F>
ALIGNLAB_MATH void map_row(
    Pointers<kWidth, const T> in, Pointers<kWidth, T> out, int64_t n, bool stream, const F& f) {
  int64_t i = 0;
  const auto step = [&](int64_t count, bool is_aligned) {
    Vec x[2][kWidth], y[2][kWidth];
    for (int64_t k = 0; k < kWidth; ++k) {
      prefetch<kPair>(in.at[k] + i);
      load_some(in.at[k] + i, count, T{}, x[0][k], x[1][k]);
    }
    f(x[0], y[0]);
    f(x[1], y[1]);
    for (int64_t k = 0; k < kWidth; ++k) {
      if (!out.at[k]) {
        continue;
      }
      if (is_aligned) {
        stream_pair(out.at[k] + i, y[0][k], y[1][k]);
      } else {
        store_some(out.at[k] + i, count, y[0][k], y[1][k]);
      }
    }
    i += count < kPair ? count : kPair;
  };
  if (stream) {
    constexpr uint64_t kAlignment = 64;
    const T* first_out = out.at[0] ? out.at[0] : out.at[kWidth - 1];
    const uint64_t past = reinterpret_cast<uint64_t>(first_out) % kAlignment / sizeof(T);
    const int64_t head = past ? static_cast<int64_t>(kAlignment / sizeof(T) - past) : 0;
    const int64_t end = head < n ? head : n;
    while (i < end) {
      step(end - i < kPair ? end - i : kPair, false);
    }
    while (i + kPair <= n) {
      step(kPair, true);
    }
  }
  while (i + kPair <= n) {
    step(kPair, false);
  }
  if (i < n) {
    step(n - i, false);
  }
}

}  // namespace alignlab::ALIGNLAB_ISA
