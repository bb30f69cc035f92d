// kl_estimate on CUDA: the estimate and its derivative in one pass.
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"
#include "cuda/elements.cuh"
#include "cuda/launch.cuh"
#include "math/kl_estimate.h"

namespace alignlab::cuda {
namespace {

using torch::stable::Tensor;

template <KlEstimator kKind>
__global__ void __launch_bounds__(kElementThreads) kl_estimate(const KlEstimates a) {
  for_groups<2>(a.elements, [&](int64_t out, int64_t size, uint64_t, const float (&columns)[2][kGroup]) {
    float estimate[kGroup];
    float derivative[kGroup];
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      const KlEstimate<float> found = kl_estimate_of<kKind>(columns[0][i] - columns[1][i]);
      estimate[i] = found.estimate;
      derivative[i] = found.derivative;
    }
    store_group(a.estimate + out, size, estimate);
    store_group(a.derivative + out, size, derivative);
  });
}

std::tuple<Tensor, Tensor> run_kl_estimate(const Tensor& logp, const Tensor& ref_logp, int64_t kind) {
  STD_TORCH_CHECK(kind >= 1 && kind <= 3, "kind wants 1, 2 or 3, got ", kind);
  const Launcher launch(logp);
  const Columns columns({{"logp", logp}, {"ref_logp", ref_logp}}, nullptr);
  Tensor estimate = new_floats(logp);
  Tensor derivative = new_floats(logp);
  const auto kernel = kind == 1 ? kl_estimate<KlEstimator::kK1>
      : kind == 2               ? kl_estimate<KlEstimator::kK2>
                                : kl_estimate<KlEstimator::kK3>;
  const KlEstimates arguments{columns.elements, kind, floats(estimate), floats(derivative)};
  launch("kl_estimate", kernel, blocks_for(columns.elements), kElementThreads, arguments);
  return {estimate, derivative};
}

}  // namespace
}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("kl_estimate", TORCH_BOX(&alignlab::cuda::run_kl_estimate));
}
