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

// Ask for what lies kAhead bytes behind the next kCount elements. Rows are longer than a page, where the hardware's own
// prefetcher stops: without this a loop over bf16 waits for memory more than half of its time.
template <int64_t kCount, typename T>
ALIGNLAB_MATH void prefetch(const T* p) {
  constexpr int64_t kAhead = 2048;
  constexpr int64_t kLine = 64;
  for (int64_t offset = 0; offset < kCount * static_cast<int64_t>(sizeof(T)); offset += kLine) {
    __builtin_prefetch(reinterpret_cast<const char*>(p) + kAhead + offset);
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
