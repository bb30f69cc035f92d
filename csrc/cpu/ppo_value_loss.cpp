// ppo_value_loss on the CPU; the loops are in loops/ppo_value_loss.h.
#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"

namespace alignlab {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor, Tensor> ppo_value_loss(
    const Tensor& values,
    const Tensor& old_values,
    const Tensor& returns,
    const Tensor& mask,
    std::optional<double> clip,
    bool wants_gradient) {
  const Columns columns({{"values", values}, {"old_values", old_values}, {"returns", returns}}, &mask);
  Tensor gradient = new_floats_if(wants_gradient, values);
  std::vector<double> partials(static_cast<uint64_t>(columns.num_chunks() * kValuePartials));
  PpoValueLoss arguments{};
  arguments.elements = columns.elements;
  arguments.clip = clip ? static_cast<float>(*clip) : std::numeric_limits<float>::infinity();
  arguments.gradient = wants_gradient ? floats(gradient) : nullptr;
  arguments.partials = partials.data();
  columns.run(kernels().ppo_value_loss, arguments);
  const double count = std::max(1.0, sum_of(partials, kValuePartials, 2));
  return {
      number(values, sum_of(partials, kValuePartials, 0)),
      number(values, sum_of(partials, kValuePartials, 1) / count),
      gradient};
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("ppo_value_loss", TORCH_BOX(&alignlab::ppo_value_loss));
}
