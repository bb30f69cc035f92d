// gae by recursive doubling: after round k every step knows the sum over the 2^k steps from it on.
#include <cstdint>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor> gae(const Tensor& rewards, const Tensor& values, const Tensor& mask, double gamma, double lam) {
  const int64_t num_rows = rewards.size(0);
  const int64_t length = rewards.size(1);
  Tensor advantages = torch::stable::empty_like(rewards);
  Tensor returns = torch::stable::empty_like(rewards);
  torch::stable::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> value, sum, factor;
    std::vector<int64_t> kept;
    for (int64_t row = begin; row < end; ++row) {
      const float* r = static_cast<const float*>(rewards.const_data_ptr()) + row * length;
      const float* v = static_cast<const float*>(values.const_data_ptr()) + row * length;
      const bool* m = static_cast<const bool*>(mask.const_data_ptr()) + row * length;
      float* advantage = static_cast<float*>(advantages.mutable_data_ptr()) + row * length;
      float* target = static_cast<float*>(returns.mutable_data_ptr()) + row * length;
      kept.clear();
      for (int64_t t = 0; t < length; ++t) {
        advantage[t] = target[t] = 0;
        if (m[t]) {
          kept.push_back(t);
        }
      }
      const size_t n = kept.size();
      sum.assign(n, 0);
      for (size_t i = 0; i < n; ++i) {
        const float next = i + 1 < n ? v[kept[i + 1]] : 0;
        sum[i] = r[kept[i]] + static_cast<float>(gamma) * next - v[kept[i]];
      }
      factor.assign(n, static_cast<float>(gamma * lam));
      for (size_t step = 1; step < n; step *= 2) {
        for (size_t i = 0; i + step < n; ++i) {  // what lies behind is still of the round before
          sum[i] += factor[i] * sum[i + step];
          factor[i] *= factor[i + step];
        }
      }
      for (size_t i = 0; i < n; ++i) {
        advantage[kept[i]] = sum[i];
        target[kept[i]] = sum[i] + v[kept[i]];
      }
    }
  });
  return {advantages, returns};
}

}  // namespace

STABLE_TORCH_LIBRARY(alignlab_doubling, m) {
  m.def("gae(Tensor rewards, Tensor values, Tensor mask, float gamma, float lam) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(alignlab_doubling, CPU, m) {
  m.impl("gae", TORCH_BOX(&gae));
}
