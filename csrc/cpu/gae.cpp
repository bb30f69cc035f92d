// gae on the CPU: a row is one serial recursion from its end, rows run in parallel.
#include <algorithm>
#include <cstdint>
#include <tuple>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "checks.h"
#include "math/gae.h"

namespace alignlab {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A strided view of a [B, T] tensor, so that no input has to be copied.
template <typename T>
struct Matrix {
  const T* data;
  int64_t row_stride;
  int64_t column_stride;

  explicit Matrix(const Tensor& tensor)
      : data(static_cast<const T*>(tensor.const_data_ptr())),
        row_stride(tensor.stride(0)),
        column_stride(tensor.stride(1)) {}

  T at(int64_t row, int64_t column) const {
    return data[row * row_stride + column * column_stride];
  }
};

// In: what rewards and values are stored as. Sum: what the recursion runs in, and the outputs are.
template <typename In, typename Sum>
void gae_rows(
    const Tensor& rewards, const Tensor& values, const Tensor& mask, Sum gamma, Sum lam, Tensor& advantages, Tensor& returns) {
  const Matrix<In> reward(rewards);
  const Matrix<In> value(values);
  const Matrix<bool> kept(mask);
  const int64_t num_rows = rewards.size(0);
  const int64_t num_columns = rewards.size(1);
  Sum* advantage_out = static_cast<Sum*>(advantages.mutable_data_ptr());
  Sum* return_out = static_cast<Sum*>(returns.mutable_data_ptr());

  // Below some 32,768 tokens a thread costs more than it saves.
  const int64_t rows_per_thread = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, num_columns));
  torch::stable::parallel_for(0, num_rows, rows_per_thread, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      GaeStep<Sum> next{0, 0};
      for (int64_t column = num_columns - 1; column >= 0; --column) {
        const int64_t out = row * num_columns + column;
        if (!kept.at(row, column)) {
          advantage_out[out] = 0;
          return_out[out] = 0;
          continue;
        }
        next = gae_step<Sum>(
            static_cast<Sum>(reward.at(row, column)), static_cast<Sum>(value.at(row, column)), next, gamma, lam);
        advantage_out[out] = next.advantage;
        return_out[out] = next.advantage + next.value;
      }
    }
  });
}

std::tuple<Tensor, Tensor> gae(
    const Tensor& rewards, const Tensor& values, const Tensor& mask, double gamma, double lam) {
  check_matrix("rewards", rewards);
  check_same_shape("values", values, "rewards", rewards);
  check_same_shape("mask", mask, "rewards", rewards);
  const ScalarType dtype = rewards.scalar_type();
  STD_TORCH_CHECK(values.scalar_type() == dtype, "values wants the dtype of rewards");
  STD_TORCH_CHECK(mask.scalar_type() == ScalarType::Bool, "mask wants dtype bool");

  const ScalarType sum = dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  Tensor advantages = torch::stable::new_empty(rewards, rewards.sizes(), sum);
  Tensor returns = torch::stable::new_empty(rewards, rewards.sizes(), sum);
  const auto run = [&](auto in, auto out) {
    using In = decltype(in);
    using Sum = decltype(out);
    gae_rows<In, Sum>(
        rewards, values, mask, static_cast<Sum>(gamma), static_cast<Sum>(lam), advantages, returns);
  };
  switch (dtype) {
    case ScalarType::Float:
      run(float{}, float{});
      break;
    case ScalarType::Double:
      run(double{}, double{});
      break;
    case ScalarType::BFloat16:
      run(torch::headeronly::BFloat16{}, float{});
      break;
    case ScalarType::Half:
      run(torch::headeronly::Half{}, float{});
      break;
    default:
      STD_TORCH_CHECK(false, "rewards wants dtype float32, float64, bfloat16 or float16");
  }
  return {advantages, returns};
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("gae", TORCH_BOX(&alignlab::gae));
}
