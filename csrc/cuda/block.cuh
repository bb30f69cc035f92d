// What the threads of a block do together. Blocks are whole warps, and every thread calls these.
#pragma once

#include <cstring>

#include "cuda/grid.cuh"

namespace alignlab::cuda {

constexpr int64_t kMaxWarps = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ int64_t lane() { return threadIdx.x % kWarp; }
__device__ __forceinline__ int64_t warp() { return threadIdx.x / kWarp; }
__device__ __forceinline__ int64_t num_warps() { return blockDim.x / kWarp; }

// A value of several words, from another lane.
template <typename State, typename Shuffle>
__device__ __forceinline__ State shuffle(const State& state, const Shuffle& shuffle_word) {
  static_assert(sizeof(State) % 4 == 0);
  uint32_t words[sizeof(State) / 4];
  memcpy(words, &state, sizeof(State));
#pragma unroll
  for (uint64_t i = 0; i < sizeof(State) / 4; ++i) {
    words[i] = shuffle_word(words[i]);
  }
  State out;
  memcpy(&out, words, sizeof(State));
  return out;
}

template <typename State>
__device__ __forceinline__ State from_lane_xor(const State& state, int mask) {
  return shuffle(state, [mask](uint32_t word) { return __shfl_xor_sync(kAllLanes, word, mask); });
}

// From the lane `by` above; the upper `by` lanes get what they had.
template <typename State>
__device__ __forceinline__ State from_lane_above(const State& state, unsigned by) {
  return shuffle(state, [by](uint32_t word) { return __shfl_down_sync(kAllLanes, word, by); });
}

template <typename State>
__device__ __forceinline__ State from_lane(const State& state, int source) {
  return shuffle(state, [source](uint32_t word) { return __shfl_sync(kAllLanes, word, source); });
}

template <typename State, typename Join>
__device__ __forceinline__ State reduce_warp(State state, const Join& join) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    state = join(state, from_lane_xor(state, mask));
  }
  return state;
}

// The states of all threads joined, in thread 0 (and its warp). `none` joins without effect.
template <typename State, typename Join>
__device__ __forceinline__ State reduce_block(State state, const State& none, const Join& join) {
  __shared__ State of_warp[kMaxWarps];
  state = reduce_warp(state, join);
  if (num_warps() == 1) {
    return state;
  }
  if (lane() == 0) {
    of_warp[warp()] = state;
  }
  __syncthreads();
  if (warp() == 0) {
    state = reduce_warp(lane() < num_warps() ? of_warp[lane()] : none, join);
  }
  __syncthreads();  // of_warp may be written again
  return state;
}

// What thread 0 has.
template <typename State>
__device__ __forceinline__ State from_first_thread(const State& state) {
  __shared__ State of_first;
  if (threadIdx.x == 0) {
    of_first = state;
  }
  __syncthreads();
  const State out = of_first;
  __syncthreads();
  return out;
}

}  // namespace alignlab::cuda
