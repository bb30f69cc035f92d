// How many blocks of how many threads a kernel gets. It follows from the shapes alone, so that sums have the same bits
// on every device.
#pragma once

#include <algorithm>

#include "arguments.h"
#include "math/portable.h"

namespace alignlab::cuda {

constexpr int64_t kMaxBlocks = 2147483647;  // of grid.x (grid.y ends at 65,535): kernels loop over what is left
constexpr int64_t kWarp = 32;

ALIGNLAB_MATH constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

constexpr int64_t kMaxRowThreads = 512;  // a block a row

// So many that each has `num_loads` packs of 16 bytes of a row on their way at a time.
inline int64_t threads_for_row(
    Storage storage, int64_t length, int64_t num_loads, int64_t max_threads = kMaxRowThreads) {
  const int64_t num_packs = divide_up(length, storage == Storage::kFloat ? 4 : 8);
  const int64_t num_threads = divide_up(num_packs, num_loads * kWarp) * kWarp;
  return std::max(kWarp, std::min(num_threads, max_threads));
}

}  // namespace alignlab::cuda
