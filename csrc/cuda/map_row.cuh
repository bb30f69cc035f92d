// A row from one or two rows, element by element: what the gradients of logits are.
#pragma once

#include "cuda/pack.cuh"

namespace alignlab::cuda {

// Outputs that are null are left out; an output may be an input. `f.at(first, x, y)` fills y[output][i] from
// x[input][i] for as many elements as the arrays hold, which are those from `first` on.
template <typename T, int64_t kInputs, int64_t kOutputs, typename F>
__device__ __forceinline__ void map_row(
    const T* const (&inputs)[kInputs], T* const (&outputs)[kOutputs], int64_t n, const F& f) {
  constexpr int64_t kLoads = 4 / kInputs;  // of every input, on their way at a time
  const Span span = span_of(inputs[0], n);
  bool input_is_aligned[kInputs];
  bool output_is_aligned[kOutputs];
#pragma unroll
  for (int64_t k = 0; k < kInputs; ++k) {
    input_is_aligned[k] = same_boundaries(inputs[0], inputs[k]);
  }
#pragma unroll
  for (int64_t k = 0; k < kOutputs; ++k) {
    output_is_aligned[k] = same_boundaries<T>(inputs[0], outputs[k]);
  }
  const auto map_one = [&](int64_t i) {
    float x[kInputs][1];
    float y[kOutputs][1];
#pragma unroll
    for (int64_t k = 0; k < kInputs; ++k) {
      x[k][0] = static_cast<float>(inputs[k][i]);
    }
    f.at(i, x, y);
#pragma unroll
    for (int64_t k = 0; k < kOutputs; ++k) {
      if (outputs[k]) {
        outputs[k][i] = static_cast<T>(y[k][0]);
      }
    }
  };
  if (threadIdx.x < span.head) {
    map_one(threadIdx.x);
  }
  for (int64_t first = threadIdx.x; first < span.num_packs; first += kLoads * blockDim.x) {
    Pack loaded[kLoads][kInputs];
#pragma unroll
    for (int64_t load = 0; load < kLoads; ++load) {
      const int64_t pack = first + load * blockDim.x;
      if (pack < span.num_packs) {
#pragma unroll
        for (int64_t k = 0; k < kInputs; ++k) {
          loaded[load][k] = load_pack(inputs[k] + span.head + pack * kPerPack<T>, input_is_aligned[k]);
        }
      }
    }
#pragma unroll
    for (int64_t load = 0; load < kLoads; ++load) {
      const int64_t pack = first + load * blockDim.x;
      if (pack < span.num_packs) {
        float x[kInputs][kPerPack<T>];
        float y[kOutputs][kPerPack<T>];
#pragma unroll
        for (int64_t k = 0; k < kInputs; ++k) {
#pragma unroll
          for (int64_t i = 0; i < kPerPack<T>; ++i) {
            x[k][i] = element(loaded[load][k], i, T{});
          }
        }
        const int64_t at = span.head + pack * kPerPack<T>;
        f.at(at, x, y);
#pragma unroll
        for (int64_t k = 0; k < kOutputs; ++k) {
          if (outputs[k]) {
            store_pack(outputs[k] + at, output_is_aligned[k], y[k]);
          }
        }
      }
    }
  }
  if (span.tail + threadIdx.x < n) {
    map_one(span.tail + threadIdx.x);
  }
}

}  // namespace alignlab::cuda
