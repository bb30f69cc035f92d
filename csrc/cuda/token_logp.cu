// token_logp on CUDA: a block a row, one pass forward and one backward.
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "cuda/map_row.cuh"
#include "cuda/softmax.cuh"
#include "cuda/token_logp.cuh"
#include "layout.h"
#include "math/token_logp.h"

namespace alignlab::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T, bool kEntropy>
__global__ void __launch_bounds__(kMaxRowThreads) token_logp_forward(const TokenLogp a, int64_t num_rows) {
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const T* x = static_cast<const T*>(a.logits) + a.rows.offset(row);
    const RunningSoftmax<kEntropy> softmax = run_over_row<kEntropy>(x, a.vocab, a.inverse_temperature);
    if (threadIdx.x == 0) {
      const float log_sum = softmax.log_sum();
      const int64_t token = a.tokens[row];
      const bool is_inside = is_token(token, a.vocab, row);
      a.logp[row] =
          is_inside ? logp_of(static_cast<float>(x[token]), a.inverse_temperature, softmax.base, log_sum) : nanf("");
      a.max[row] = softmax.base;
      a.log_sum[row] = is_inside ? log_sum : nanf("");  // the backward's gradient becomes NaN, too
      if (kEntropy) {
        a.entropy[row] = log_sum - softmax.mean / softmax.sum;
      }
    }
  }
}

template <bool kEntropy>
struct TokenLogpGradient {
  float scale;
  float max;
  LogpGradient<float> row;
  int64_t token;
  float drawn;  // what the token's own logit gets more

  template <int64_t kCount>
  ALIGNLAB_MATH void at(int64_t first, const float (&x)[1][kCount], float (&grad)[1][kCount]) const {
#pragma unroll
    for (int64_t i = 0; i < kCount; ++i) {
      const float z = fmaf(x[0][i], scale, -max);
      const float e = fast_exp(z);
      grad[0][i] = kEntropy ? e * fmaf(row.slope, fmaxf(z, kExpIsZero), row.offset) : e * row.offset;
    }
    if (token >= first && token < first + kCount) {
#pragma unroll
      for (int64_t i = 0; i < kCount; ++i) {  // no index that is known at run time only: x and grad are registers
        grad[0][i] += token == first + i ? drawn : 0;
      }
    }
  }
};

template <typename T, bool kEntropy>
__global__ void __launch_bounds__(kMaxRowThreads) token_logp_backward(const TokenLogpBackward a, int64_t num_rows) {
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const T* x = static_cast<const T*>(a.logits) + a.rows.offset(row);
    T* grad = static_cast<T*>(a.grad_logits) + a.grad_rows.offset(row);
    const float grad_logp = a.grad_logp ? a.grad_logp[row] : 0;
    const float grad_entropy = kEntropy ? a.grad_entropy[row] : 0;
    const float entropy = kEntropy ? a.entropy[row] : 0;
    const float log_sum = a.log_sum[row];
    const TokenLogpGradient<kEntropy> gradient{
        a.inverse_temperature,
        a.max[row],
        logp_gradient(grad_logp, grad_entropy, entropy, log_sum, expf(-log_sum), a.inverse_temperature),
        a.tokens[row] - a.first_token,
        grad_logp * a.inverse_temperature};
    map_row<T, 1, 1>({x}, {grad}, a.vocab, gradient);
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> run_token_logp(
    const Tensor& logits, const Tensor& tokens, double temperature, bool entropy) {
  check_native_dtype("logits", logits);
  check_one_a_row("tokens", tokens, "logits", logits);
  check_dtype("tokens", tokens, ScalarType::Long, "int64");
  const Launcher launch(logits);
  const Tensor dense_tokens = torch::stable::contiguous(tokens);
  const RowView view(logits);
  const auto of_rows = [&] { return torch::stable::new_empty(logits, tokens.sizes(), ScalarType::Float); };
  Tensor logp = of_rows();
  Tensor max = of_rows();
  Tensor log_sum = of_rows();
  Tensor entropies = entropy ? of_rows() : torch::stable::new_empty(logits, {0}, ScalarType::Float);
  TokenLogp arguments{};
  arguments.storage = storage(logits);
  arguments.logits = view.tensor.const_data_ptr();
  arguments.rows = view.rows;
  arguments.vocab = logits.size(logits.dim() - 1);
  arguments.tokens = static_cast<const int64_t*>(dense_tokens.const_data_ptr());
  arguments.inverse_temperature = static_cast<float>(1 / temperature);
  arguments.logp = floats(logp);
  arguments.entropy = entropy ? floats(entropies) : nullptr;
  arguments.max = floats(max);
  arguments.log_sum = floats(log_sum);
  const int64_t num_rows = dense_tokens.numel();
  with_storage(arguments.storage, [&](auto type) {
    using T = decltype(type);
    const auto kernel = entropy ? token_logp_forward<T, true> : token_logp_forward<T, false>;
    const int64_t num_threads = threads_for_row(arguments.storage, arguments.vocab, 4);
    launch("token_logp", kernel, num_rows, num_threads, arguments, num_rows);
  });
  return {logp, entropies, max, log_sum};
}

// Fill `grad_logits`, which may be the logits themselves.
void fill_gradient(
    const Tensor& logits,
    const Tensor& tokens,
    const Tensor& max,
    const Tensor& log_sum,
    const Tensor& entropy,
    const std::optional<Tensor>& grad_logp,
    const std::optional<Tensor>& grad_entropy,
    double temperature,
    const Tensor& grad_logits) {
  check_native_dtype("logits", logits);
  check_one_a_row("tokens", tokens, "logits", logits);
  check_dtype("tokens", tokens, ScalarType::Long, "int64");
  const Launcher launch(logits);
  const Tensor dense_tokens = torch::stable::contiguous(tokens);
  const RowView view(logits);
  const auto dense = [&](const char* name, const std::optional<Tensor>& given) {
    return given ? std::optional<Tensor>(dense_floats(name, *given, "tokens", tokens)) : std::nullopt;
  };
  const auto pointer = [](const std::optional<Tensor>& tensor) {
    return tensor ? static_cast<const float*>(tensor->const_data_ptr()) : nullptr;
  };
  const std::optional<Tensor> dense_max = dense("max", max);
  const std::optional<Tensor> dense_log_sum = dense("log_sum", log_sum);
  const std::optional<Tensor> dense_grad_logp = dense("grad_logp", grad_logp);
  const std::optional<Tensor> dense_grad_entropy = dense("grad_entropy", grad_entropy);
  const std::optional<Tensor> dense_entropy = grad_entropy ? dense("entropy", entropy) : std::nullopt;
  TokenLogpBackward arguments{};
  arguments.storage = storage(logits);
  arguments.logits = view.tensor.const_data_ptr();
  arguments.rows = view.rows;
  arguments.vocab = logits.size(logits.dim() - 1);
  arguments.tokens = static_cast<const int64_t*>(dense_tokens.const_data_ptr());
  arguments.inverse_temperature = static_cast<float>(1 / temperature);
  arguments.max = pointer(dense_max);
  arguments.log_sum = pointer(dense_log_sum);
  arguments.entropy = pointer(dense_entropy);
  arguments.grad_logp = pointer(dense_grad_logp);
  arguments.grad_entropy = pointer(dense_grad_entropy);
  arguments.grad_logits = grad_logits.mutable_data_ptr();
  arguments.grad_rows = *rows_of(grad_logits);
  launch_token_logp_backward(launch, arguments, dense_tokens.numel());
}

Tensor run_token_logp_backward(
    const Tensor& logits,
    const Tensor& tokens,
    const Tensor& max,
    const Tensor& log_sum,
    const Tensor& entropy,
    const std::optional<Tensor>& grad_logp,
    const std::optional<Tensor>& grad_entropy,
    double temperature) {
  Tensor grad_logits = torch::stable::new_empty(logits, logits.sizes());
  fill_gradient(logits, tokens, max, log_sum, entropy, grad_logp, grad_entropy, temperature, grad_logits);
  return grad_logits;
}

void run_token_logp_backward_inplace(
    const Tensor& logits,
    const Tensor& tokens,
    const Tensor& max,
    const Tensor& log_sum,
    const Tensor& entropy,
    const std::optional<Tensor>& grad_logp,
    const std::optional<Tensor>& grad_entropy,
    double temperature) {
  STD_TORCH_CHECK(
      rows_of(logits).has_value(), "inplace_backward wants logits whose rows are contiguous, got ", shape(logits));
  fill_gradient(logits, tokens, max, log_sum, entropy, grad_logp, grad_entropy, temperature, logits);
}

}  // namespace

void launch_token_logp_backward(const Launcher& launch, const TokenLogpBackward& arguments, int64_t num_rows) {
  with_storage(arguments.storage, [&](auto type) {
    using T = decltype(type);
    const auto kernel = arguments.grad_entropy ? token_logp_backward<T, true> : token_logp_backward<T, false>;
    const int64_t num_threads = threads_for_row(arguments.storage, arguments.vocab, 4);
    launch("token_logp_backward", kernel, num_rows, num_threads, arguments, num_rows);
  });
}

}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("token_logp", TORCH_BOX(&alignlab::cuda::run_token_logp));
  m.impl("token_logp_backward", TORCH_BOX(&alignlab::cuda::run_token_logp_backward));
  m.impl("token_logp_backward_", TORCH_BOX(&alignlab::cuda::run_token_logp_backward_inplace));
}
