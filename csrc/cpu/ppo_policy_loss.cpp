// ppo_policy_loss on the CPU; the loops are in loops/ppo_policy_loss.h.
#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"

namespace alignlab {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ppo_policy_loss(
    const Tensor& logp,
    const Tensor& old_logp,
    const Tensor& advantages,
    const Tensor& mask,
    double clip_low,
    double clip_high,
    std::optional<double> dual_clip,
    bool wants_gradient) {
  const Columns columns({{"logp", logp}, {"old_logp", old_logp}, {"advantages", advantages}}, &mask);
  Tensor gradient = new_floats_if(wants_gradient, logp);
  std::vector<double> partials(static_cast<uint64_t>(columns.num_chunks() * kPolicyPartials));
  PpoPolicyLoss arguments{};
  arguments.elements = columns.elements;
  arguments.low = static_cast<float>(1 - clip_low);
  arguments.high = static_cast<float>(1 + clip_high);
  arguments.dual = dual_clip ? static_cast<float>(*dual_clip) : std::numeric_limits<float>::infinity();
  arguments.gradient = wants_gradient ? floats(gradient) : nullptr;
  arguments.partials = partials.data();
  columns.run(kernels().ppo_policy_loss, arguments);
  const auto sum = [&](int64_t which) { return sum_of(partials, kPolicyPartials, which); };
  const double count = std::max(1.0, sum(4));
  return {
      number(logp, sum(0)),
      number(logp, sum(1) / count),
      number(logp, sum(2) / count),
      number(logp, sum(3) / count),
      gradient};
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("ppo_policy_loss", TORCH_BOX(&alignlab::ppo_policy_loss));
}
