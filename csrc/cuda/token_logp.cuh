// What token_logp's kernels share with linear_logp's.
#pragma once

#include "arguments.h"
#include "cuda/launch.cuh"

namespace alignlab::cuda {

void launch_token_logp_backward(const Launcher& launch, const TokenLogpBackward& arguments, int64_t num_rows);

// A token outside of the vocabulary is never read at. The row becomes NaN; a debug build (-DALIGNLAB_DEBUG) stops.
__device__ __forceinline__ bool is_token(int64_t token, int64_t vocab, int64_t row) {
  const bool is_inside = token >= 0 && token < vocab;
#ifdef ALIGNLAB_DEBUG
  if (!is_inside) {
    printf(
        "alignlab: tokens wants values in [0, %lld), got %lld at row %lld\n",
        static_cast<long long>(vocab), static_cast<long long>(token), static_cast<long long>(row));
    __trap();
  }
#endif
  return is_inside;
}

}  // namespace alignlab::cuda
