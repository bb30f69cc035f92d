// Walks over tensors of one number a token, eight neighbours of a row a thread and turn.
#pragma once

#include "arguments.h"
#include "cuda/block.cuh"
#include "cuda/pack.cuh"

namespace alignlab::cuda {

constexpr int64_t kGroup = 8;
constexpr int64_t kElementThreads = 256;
constexpr int64_t kMaxElementBlocks = 1024;  // as many partial sums at most

inline int64_t blocks_for(const Elements& elements) {
  const int64_t num_groups = elements.num_rows * divide_up(elements.length, kGroup);
  const int64_t num_blocks = divide_up(num_groups, kElementThreads);
  return num_blocks < kMaxElementBlocks ? num_blocks : kMaxElementBlocks;
}


// A group as it is stored: one pack of 16-bit numbers, or two of floats. Past the end of a row stand zeros.
struct Group {
  Pack packs[2];
};

template <typename T>
ALIGNLAB_MATH Group load_group(const T* p, int64_t size) {
  constexpr int64_t kPacks = kGroup / kPerPack<T>;
  Group group{};
  if (size == kGroup && is_aligned(p)) {
#pragma unroll
    for (int64_t k = 0; k < kPacks; ++k) {
      group.packs[k] = load_pack(p + k * kPerPack<T>, true);
    }
    return group;
  }
#pragma unroll
  for (int64_t i = 0; i < kGroup; ++i) {
    put(group.packs[i / kPerPack<T>], i % kPerPack<T>, i < size ? p[i] : static_cast<T>(0.0f));
  }
  return group;
}

// Loads come before their conversion, so that those of several columns are on their way together.
ALIGNLAB_MATH Group load_group(const void* data, Storage storage, int64_t offset, int64_t size) {
  return storage == Storage::kFloat ? load_group(static_cast<const float*>(data) + offset, size)
      : storage == Storage::kHalf   ? load_group(static_cast<const Half*>(data) + offset, size)
                                    : load_group(static_cast<const BFloat16*>(data) + offset, size);
}

ALIGNLAB_MATH void widen(const Group& group, Storage storage, float (&x)[kGroup]) {
#pragma unroll
  for (int64_t i = 0; i < kGroup; ++i) {
    x[i] = storage == Storage::kFloat ? element(group.packs[i / 4], i % 4, float{})
        : storage == Storage::kHalf   ? element(group.packs[0], i, Half{})
                                      : element(group.packs[0], i, BFloat16{});
  }
}

// A byte for each element of a group: not 0 where it is kept.
ALIGNLAB_MATH uint64_t load_mask(const bool* mask, int64_t offset, int64_t size) {
  constexpr uint64_t kAll = 0x0101010101010101u;
  if (!mask) {
    return kAll >> 8 * (kGroup - size);
  }
  const uint8_t* p = reinterpret_cast<const uint8_t*>(mask) + offset;
  if (size == kGroup && reinterpret_cast<uintptr_t>(p) % kGroup == 0) {
    return *reinterpret_cast<const uint64_t*>(p);
  }
  uint64_t bytes = 0;
#pragma unroll
  for (int64_t i = 0; i < kGroup; ++i) {
    bytes |= i < size ? static_cast<uint64_t>(p[i]) << 8 * i : 0;
  }
  return bytes;
}

ALIGNLAB_MATH bool is_kept(uint64_t mask, int64_t i) { return mask >> 8 * i & 0xff; }

// Into a contiguous fp32 tensor.
ALIGNLAB_MATH void store_group(float* p, int64_t size, const float (&x)[kGroup]) {
  if (size == kGroup && is_aligned(p)) {
#pragma unroll
    for (int64_t k = 0; k < 2; ++k) {
      const float half[4] = {x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3]};
      store_pack(p + 4 * k, true, half);
    }
  } else {
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      if (i < size) {
        p[i] = x[i];
      }
    }
  }
}

// Call f(where the group's results go, its size, mask, columns) for every group of this thread.
template <int64_t kColumns, typename F>
__device__ __forceinline__ void for_groups(const Elements& a, const F& f) {
  const int64_t groups_per_row = divide_up(a.length, kGroup);
  const int64_t num_groups = a.num_rows * groups_per_row;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t group = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; group < num_groups;
       group += stride) {
    const int64_t row = a.num_rows == 1 ? 0 : group / groups_per_row;  // a division of int64 is slow
    const int64_t at = (group - row * groups_per_row) * kGroup;
    const int64_t size = a.length - at < kGroup ? a.length - at : kGroup;
    Group loaded[kColumns];
#pragma unroll
    for (int64_t k = 0; k < kColumns; ++k) {
      const Column& column = a.columns[k];
      loaded[k] = load_group(column.data, column.storage, column.rows.offset(row) + at, size);
    }
    const uint64_t mask = load_mask(a.mask, a.mask_rows.offset(row) + at, size);
    float columns[kColumns][kGroup];
#pragma unroll
    for (int64_t k = 0; k < kColumns; ++k) {
      widen(loaded[k], a.columns[k].storage, columns[k]);
    }
    f(row * a.length + at, size, mask, columns);
  }
}

// Sums of several numbers by all threads of a block.
template <int64_t kSums>
struct Sums {
  double of[kSums] = {};

  ALIGNLAB_MATH static Sums join(Sums a, const Sums& b) {
#pragma unroll
    for (int64_t i = 0; i < kSums; ++i) {
      a.of[i] += b.of[i];
    }
    return a;
  }
};

// The block's sums, as its row of `partials`.
template <int64_t kSums>
__device__ __forceinline__ void store_sums(const Sums<kSums>& sums, double* partials) {
  const Sums<kSums> all = reduce_block(sums, Sums<kSums>{}, Sums<kSums>::join);
  if (threadIdx.x == 0) {
#pragma unroll
    for (int64_t i = 0; i < kSums; ++i) {
      partials[blockIdx.x * kSums + i] = all.of[i];
    }
  }
}

// The sums of all rows of `partials`, in a fixed order, in thread 0.
template <int64_t kSums>
__device__ __forceinline__ Sums<kSums> add_partials(const double* partials, int64_t num_partials) {
  Sums<kSums> sums;
  for (int64_t row = threadIdx.x; row < num_partials; row += blockDim.x) {
#pragma unroll
    for (int64_t i = 0; i < kSums; ++i) {
      sums.of[i] += partials[row * kSums + i];
    }
  }
  return reduce_block(sums, Sums<kSums>{}, Sums<kSums>::join);
}

}  // namespace alignlab::cuda
