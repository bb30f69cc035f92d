// ppo_value_loss on CUDA: loss, metric and gradient in one pass; each block's sums are added up by one block.
#include <limits>
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"
#include "cuda/elements.cuh"
#include "cuda/launch.cuh"
#include "math/ppo_value_loss.h"

namespace alignlab::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

__global__ void __launch_bounds__(kElementThreads, 2) ppo_value_loss(const PpoValueLoss a) {
  float total = 0;
  int32_t num_clipped = 0;
  int32_t num_kept = 0;
  for_groups<3>(a.elements, [&](int64_t out, int64_t size, uint64_t mask, const float (&columns)[3][kGroup]) {
    float gradient[kGroup];
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      const bool kept = is_kept(mask, i);
      const auto term = value_term(
          kept ? columns[0][i] : 0.0f, kept ? columns[1][i] : 0.0f, kept ? columns[2][i] : 0.0f, a.clip);
      total += term.loss;
      num_clipped += term.is_clipped;
      num_kept += kept;
      gradient[i] = term.gradient;
    }
    if (a.gradient) {
      store_group(a.gradient + out, size, gradient);
    }
  });
  store_sums<kValuePartials>(
      {{total, static_cast<double>(num_clipped), static_cast<double>(num_kept)}}, a.partials);
}

__global__ void __launch_bounds__(kElementThreads)
    ppo_value_loss_sums(const double* partials, int64_t num_partials, float* total, float* clipped) {
  const Sums<kValuePartials> sums = add_partials<kValuePartials>(partials, num_partials);
  if (threadIdx.x == 0) {
    const double count = sums.of[2] > 1 ? sums.of[2] : 1;
    *total = static_cast<float>(sums.of[0]);
    *clipped = static_cast<float>(sums.of[1] / count);
  }
}

std::tuple<Tensor, Tensor, Tensor> run_ppo_value_loss(
    const Tensor& values,
    const Tensor& old_values,
    const Tensor& returns,
    const Tensor& mask,
    std::optional<double> clip,
    bool wants_gradient) {
  const Launcher launch(values);
  const Columns columns({{"values", values}, {"old_values", old_values}, {"returns", returns}}, &mask);
  const int64_t num_blocks = blocks_for(columns.elements);
  Tensor gradient = new_floats_if(wants_gradient, values);
  Tensor partials = torch::stable::new_empty(values, {num_blocks * kValuePartials}, ScalarType::Double);
  Tensor total = torch::stable::new_empty(values, {}, ScalarType::Float);
  Tensor clip_fraction = torch::stable::new_empty(values, {}, ScalarType::Float);
  PpoValueLoss arguments{};
  arguments.elements = columns.elements;
  arguments.clip = clip ? static_cast<float>(*clip) : std::numeric_limits<float>::infinity();
  arguments.gradient = wants_gradient ? floats(gradient) : nullptr;
  arguments.partials = static_cast<double*>(partials.mutable_data_ptr());
  launch("ppo_value_loss", ppo_value_loss, num_blocks, kElementThreads, arguments);
  launch(
      "ppo_value_loss_sums", ppo_value_loss_sums, 1, kElementThreads, arguments.partials, num_blocks,
      floats(total), floats(clip_fraction));
  return {total, clip_fraction, gradient};
}

}  // namespace
}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("ppo_value_loss", TORCH_BOX(&alignlab::cuda::run_ppo_value_loss));
}
