// Loads and stores of every storage type, whole vectors and parts of one.
#pragma once

#include "arguments.h"
#include "cpu/vec.h"

namespace alignlab::ALIGNLAB_ISA {

// Call f(storage type) for what lies in memory.
template <typename F>
ALIGNLAB_MATH void with_storage(Storage storage, const F& f) {
  switch (storage) {
    case Storage::kFloat:
      return f(float{});
    case Storage::kBFloat16:
      return f(BFloat16{});
    case Storage::kHalf:
      return f(Half{});
  }
}

// n < Vec::kSize elements and zeros.
template <typename T>
ALIGNLAB_MATH Vec load_part(const T* p, int64_t n) {
  T buffer[Vec::kSize] = {};
  for (int64_t i = 0; i < n; ++i) {
    buffer[i] = p[i];
  }
  return load_one(buffer);
}

ALIGNLAB_MATH void store_part(float* p, int64_t n, Vec a) {
  float buffer[Vec::kSize];
  store(buffer, a);
  for (int64_t i = 0; i < n; ++i) {
    p[i] = buffer[i];
  }
}

}  // namespace alignlab::ALIGNLAB_ISA
