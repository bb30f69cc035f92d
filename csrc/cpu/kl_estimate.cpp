// kl_estimate on the CPU; the loops are in loops/kl_estimate.h.
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"

namespace alignlab {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor> kl_estimate(const Tensor& logp, const Tensor& ref_logp, int64_t kind) {
  STD_TORCH_CHECK(kind >= 1 && kind <= 3, "kind wants 1, 2 or 3, got ", kind);
  const Columns columns({{"logp", logp}, {"ref_logp", ref_logp}}, nullptr);
  Tensor estimate = new_floats(logp);
  Tensor derivative = new_floats(logp);
  columns.run(kernels().kl_estimate, KlEstimates{columns.elements, kind, floats(estimate), floats(derivative)});
  return {estimate, derivative};
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("kl_estimate", TORCH_BOX(&alignlab::kl_estimate));
}
