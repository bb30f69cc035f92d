// gae on the CPU: checks, memory and threads; the loops are in loops/gae.h.
#include <algorithm>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "cpu/kernels.h"
#include "layout.h"

namespace alignlab {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

std::tuple<Tensor, Tensor> gae(
    const Tensor& rewards, const Tensor& values, const Tensor& mask, double gamma, double lam) {
  STD_TORCH_CHECK(rewards.dim() == 2, "rewards wants shape [B, T], got ", shape(rewards));
  check_like("values", values, "rewards", rewards);
  check_like("mask", mask, "rewards", rewards);
  check_native_dtype("rewards", rewards);
  check_native_dtype("values", values);
  check_dtype("mask", mask, ScalarType::Bool, "bool");
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
  torch::stable::parallel_for(0, rewards.size(0), rows_per_thread(arguments.length), [&](int64_t begin, int64_t end) {
    kernels().gae(arguments, begin, end);
  });
  return {advantages, returns};
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("gae", TORCH_BOX(&alignlab::gae));
}
