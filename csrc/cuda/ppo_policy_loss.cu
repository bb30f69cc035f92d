// ppo_policy_loss on CUDA: loss, metrics and gradient in one pass; each block's sums are added up by one block.
#include <limits>
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"
#include "cuda/elements.cuh"
#include "cuda/launch.cuh"
#include "math/ppo_policy_loss.h"

namespace alignlab::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

__global__ void __launch_bounds__(kElementThreads, 2) ppo_policy_loss(const PpoPolicyLoss a) {
  const PolicyClip clip{a.low, a.high, a.dual};
  float total = 0;
  float kl = 0;
  int32_t num_clipped = 0;
  int32_t num_dual_clipped = 0;
  int32_t num_kept = 0;
  for_groups<3>(a.elements, [&](int64_t out, int64_t size, uint64_t mask, const float (&columns)[3][kGroup]) {
    float gradient[kGroup];
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      const bool kept = is_kept(mask, i);
      const float log_ratio = kept ? columns[0][i] - columns[1][i] : 0;
      const auto term = policy_term(log_ratio, kept ? columns[2][i] : 0, clip);
      total += term.loss;
      kl += term.kl;
      num_clipped += term.is_clipped;
      num_dual_clipped += term.is_dual_clipped;
      num_kept += kept;
      gradient[i] = kept ? term.gradient : 0;
    }
    if (a.gradient) {
      store_group(a.gradient + out, size, gradient);
    }
  });
  store_sums<kPolicyPartials>(
      {{total, static_cast<double>(num_clipped), static_cast<double>(num_dual_clipped), kl,
        static_cast<double>(num_kept)}},
      a.partials);
}

__global__ void __launch_bounds__(kElementThreads) ppo_policy_loss_sums(
    const double* partials, int64_t num_partials, float* total, float* clipped, float* dual_clipped, float* kl) {
  const Sums<kPolicyPartials> sums = add_partials<kPolicyPartials>(partials, num_partials);
  if (threadIdx.x == 0) {
    const double count = sums.of[4] > 1 ? sums.of[4] : 1;
    *total = static_cast<float>(sums.of[0]);
    *clipped = static_cast<float>(sums.of[1] / count);
    *dual_clipped = static_cast<float>(sums.of[2] / count);
    *kl = static_cast<float>(sums.of[3] / count);
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> run_ppo_policy_loss(
    const Tensor& logp,
    const Tensor& old_logp,
    const Tensor& advantages,
    const Tensor& mask,
    double clip_low,
    double clip_high,
    std::optional<double> dual_clip,
    bool wants_gradient) {
  const Launcher launch(logp);
  const Columns columns({{"logp", logp}, {"old_logp", old_logp}, {"advantages", advantages}}, &mask);
  const int64_t num_blocks = blocks_for(columns.elements);
  Tensor gradient = new_floats_if(wants_gradient, logp);
  Tensor partials = torch::stable::new_empty(logp, {num_blocks * kPolicyPartials}, ScalarType::Double);
  const auto new_number = [&] { return torch::stable::new_empty(logp, {}, ScalarType::Float); };
  Tensor total = new_number();
  Tensor clip_fraction = new_number();
  Tensor dual_clip_fraction = new_number();
  Tensor approx_kl = new_number();
  PpoPolicyLoss arguments{};
  arguments.elements = columns.elements;
  arguments.low = static_cast<float>(1 - clip_low);
  arguments.high = static_cast<float>(1 + clip_high);
  arguments.dual = dual_clip ? static_cast<float>(*dual_clip) : std::numeric_limits<float>::infinity();
  arguments.gradient = wants_gradient ? floats(gradient) : nullptr;
  arguments.partials = static_cast<double*>(partials.mutable_data_ptr());
  launch("ppo_policy_loss", ppo_policy_loss, num_blocks, kElementThreads, arguments);
  launch(
      "ppo_policy_loss_sums", ppo_policy_loss_sums, 1, kElementThreads, arguments.partials, num_blocks,
      floats(total), floats(clip_fraction), floats(dual_clip_fraction), floats(approx_kl));
  return {total, clip_fraction, dual_clip_fraction, approx_kl, gradient};
}

}  // namespace
}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("ppo_policy_loss", TORCH_BOX(&alignlab::cuda::run_ppo_policy_loss));
}
