// How many blocks of how many threads a kernel gets. It follows from the shapes alone, so that sums have the same bits on
// every device.
#pragma once

#include "math/portable.h"

namespace alignlab::cuda {

constexpr int64_t kMaxBlocks = 2147483647;  // of grid.x (grid.y ends at 65,535): kernels loop over what is left
constexpr int64_t kWarp = 32;

ALIGNLAB_MATH constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// A block walks a row in packs of 16 bytes, some four a thread and turn.
constexpr int64_t kMaxRowThreads = 512;
constexpr int64_t threads_for_row(int64_t num_packs) {
  const int64_t threads = divide_up(num_packs, 4 * kWarp) * kWarp;
  return threads < kWarp ? kWarp : threads > kMaxRowThreads ? kMaxRowThreads : threads;
}

}  // namespace alignlab::cuda
