// gae on CUDA: every row from its end in tiles, eight steps a thread. The steps are affine maps of the carry, and are
// composed by a scan over the lanes of a warp, and over the warps (math/gae.h).
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "cuda/elements.cuh"
#include "cuda/launch.cuh"
#include "layout.h"
#include "math/gae.h"

namespace alignlab::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// carry -> slope * carry + offset
struct AffineMap {
  float slope = 1;
  float offset = 0;

  ALIGNLAB_MATH float operator()(float carry) const { return fmaf(slope, carry, offset); }
  // `later` first, which is what stands after this in time.
  ALIGNLAB_MATH AffineMap after(AffineMap later) const { return {slope * later.slope, (*this)(later.offset)}; }
};

// Of every lane: its map after those of all lanes above it.
__device__ __forceinline__ AffineMap scan_from_the_end(AffineMap map) {
#pragma unroll
  for (unsigned by = 1; by < kWarp; by *= 2) {
    const AffineMap later = from_lane_above(map, by);
    map = lane() + by < kWarp ? map.after(later) : map;
  }
  return map;
}

// The maps of all steps after this thread's, and of the whole tile.
struct Scanned {
  AffineMap later;
  AffineMap tile;
};

template <int64_t kWarps>
__device__ __forceinline__ Scanned scan_block(AffineMap mine, bool turn) {
  const AffineMap from_here = scan_from_the_end(mine);
  const AffineMap above = from_lane_above(from_here, 1);
  const AffineMap later = lane() == kWarp - 1 ? AffineMap{} : above;
  const AffineMap of_warp = from_lane(from_here, 0);
  if constexpr (kWarps == 1) {
    return {later, of_warp};
  } else {
    // Two of them, by turns: a warp may write its next one while another still reads this one.
    __shared__ AffineMap of_warps[2][kWarps];
    if (lane() == 0) {
      of_warps[turn][warp()] = of_warp;
    }
    __syncthreads();
    const AffineMap from_warp = scan_from_the_end(lane() < kWarps ? of_warps[turn][lane()] : AffineMap{});
    const AffineMap next = from_lane(from_warp, static_cast<int>((warp() + 1) % kWarp));
    const AffineMap later_warps = warp() == kWarps - 1 ? AffineMap{} : next;
    return {later.after(later_warps), from_lane(from_warp, 0)};
  }
}

// kWarps warps share a row; where it is one, every warp of a block has a row of its own.
template <int64_t kWarps>
__global__ void __launch_bounds__(kWarps == 1 ? 128 : kWarps * kWarp) gae(const Gae a, int64_t num_rows) {
  const int64_t rows_per_block = num_warps() / kWarps;
  const int64_t thread = kWarps == 1 ? lane() : threadIdx.x;
  constexpr int64_t kTile = kWarps * kWarp * kGroup;
  const float gamma_lam = a.gamma * a.lam;
  bool turn = false;
  for (int64_t row = blockIdx.x * rows_per_block + (kWarps == 1 ? warp() : 0); row < num_rows;
       row += gridDim.x * rows_per_block) {
    const int64_t reward_row = a.reward_rows.offset(row);
    const int64_t value_row = a.value_rows.offset(row);
    const int64_t mask_row = a.mask_rows.offset(row);
    float carry = 0;  // of the step after the tile
    for (int64_t tile = divide_up(a.length, kTile) - 1; tile >= 0; --tile) {
      const int64_t at = tile * kTile + thread * kGroup;
      const int64_t left = a.length - at;
      const int64_t size = left < 0 ? 0 : left < kGroup ? left : kGroup;
      float rewards[kGroup] = {};
      float values[kGroup] = {};
      uint64_t mask = 0;  // past the end stand masked steps
      if (size > 0) {
        const Group loaded_rewards = load_group(a.rewards, a.reward_storage, reward_row + at, size);
        const Group loaded_values = load_group(a.values, a.value_storage, value_row + at, size);
        mask = load_mask(a.mask, mask_row + at, size);
        widen(loaded_rewards, a.reward_storage, rewards);
        widen(loaded_values, a.value_storage, values);
      }
      const auto step = [&](int64_t i) {
        return is_kept(mask, i) ? AffineMap{gamma_lam, gae_offset(rewards[i], values[i], a.gamma, gamma_lam)}
                                : AffineMap{};
      };
      AffineMap mine;
#pragma unroll
      for (int64_t i = kGroup - 1; i >= 0; --i) {
        mine = step(i).after(mine);
      }
      const Scanned scanned = scan_block<kWarps>(mine, turn);
      turn = !turn;
      float next = scanned.later(carry);
      carry = scanned.tile(carry);
      float advantages[kGroup];
      float returns[kGroup];
#pragma unroll
      for (int64_t i = kGroup - 1; i >= 0; --i) {
        const bool kept = is_kept(mask, i);
        advantages[i] = kept ? gae_advantage(rewards[i], values[i], next) : 0;
        returns[i] = kept ? advantages[i] + values[i] : 0;
        next = step(i)(next);
      }
      if (size > 0) {
        store_group(a.advantages + row * a.length + at, size, advantages);
        store_group(a.returns + row * a.length + at, size, returns);
      }
    }
  }
}

std::tuple<Tensor, Tensor> run_gae(
    const Tensor& rewards, const Tensor& values, const Tensor& mask, double gamma, double lam) {
  STD_TORCH_CHECK(rewards.dim() == 2, "rewards wants shape [B, T], got ", shape(rewards));
  check_like("values", values, "rewards", rewards);
  check_like("mask", mask, "rewards", rewards);
  check_native_dtype("rewards", rewards);
  check_native_dtype("values", values);
  check_dtype("mask", mask, ScalarType::Bool, "bool");
  const Launcher launch(rewards);
  const RowView reward(rewards);
  const RowView value(values);
  const RowView kept(mask);
  Tensor advantages = torch::stable::new_empty(rewards, rewards.sizes(), ScalarType::Float);
  Tensor returns = torch::stable::new_empty(rewards, rewards.sizes(), ScalarType::Float);
  Gae arguments{};
  arguments.reward_storage = storage(rewards);
  arguments.value_storage = storage(values);
  arguments.rewards = reward.tensor.const_data_ptr();
  arguments.values = value.tensor.const_data_ptr();
  arguments.mask = static_cast<const bool*>(kept.tensor.const_data_ptr());
  arguments.reward_rows = reward.rows;
  arguments.value_rows = value.rows;
  arguments.mask_rows = kept.rows;
  arguments.length = rewards.size(1);
  arguments.gamma = static_cast<float>(gamma);
  arguments.lam = static_cast<float>(lam);
  arguments.advantages = floats(advantages);
  arguments.returns = floats(returns);
  const int64_t num_rows = arguments.length > 0 ? rewards.size(0) : 0;
  // A warp's tile is 256 steps. Long rows get a block, and a large one where there are too few to fill the device.
  if (arguments.length <= 2 * kWarp * kGroup) {
    launch("gae", gae<1>, divide_up(num_rows, 4), 4 * kWarp, arguments, num_rows);
  } else if (arguments.length <= 4096 || num_rows >= 512) {
    launch("gae", gae<8>, num_rows, 8 * kWarp, arguments, num_rows);
  } else {
    launch("gae", gae<32>, num_rows, 32 * kWarp, arguments, num_rows);
  }
  return {advantages, returns};
}

}  // namespace
}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("gae", TORCH_BOX(&alignlab::cuda::run_gae));
}
