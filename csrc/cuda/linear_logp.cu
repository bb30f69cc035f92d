// linear_logp on CUDA: what stands between its matrix products, a chunk of the vocabulary at a time. The products are
// torch's (alignlab/ops/linear_logp.py).
#include <optional>

#include <torch/csrc/stable/library.h>

#include "cuda/softmax.cuh"
#include "cuda/token_logp.cuh"
#include "layout.h"

namespace alignlab::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The softmax of a chunk, folded into that of the chunks before it.
template <typename T, bool kMean>
__global__ void __launch_bounds__(kMaxRowThreads)
    linear_logp_fold(const LinearLogpFold a, int64_t vocab, int64_t num_rows) {
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const T* x = static_cast<const T*>(a.logits) + a.rows.offset(row);
    RunningSoftmax<kMean> running = run_over_row<kMean>(x, a.size, a.inverse_temperature);
    if (threadIdx.x == 0) {
      RunningSoftmax<kMean> before;
      before.base = a.max[row];
      before.sum = a.sum[row];
      before.mean = kMean ? a.mean[row] : 0;
      running = RunningSoftmax<kMean>::join(before, running);
      const int64_t token = a.tokens[row];
      const bool is_inside = is_token(token, vocab, row);
      a.max[row] = running.base;
      a.sum[row] = is_inside ? running.sum : nanf("");  // and so is log_sum, and with it the gradient
      if (kMean) {
        a.mean[row] = running.mean;
      }
      if (is_inside && token >= a.first_token && token < a.first_token + a.size) {
        a.drawn[row] = static_cast<float>(x[token - a.first_token]);
      }
    }
  }
}

void check_chunk(const Tensor& logits, const Tensor& tokens) {
  check_native_dtype("logits", logits);
  check_one_a_row("tokens", tokens, "logits", logits);
  check_dtype("tokens", tokens, ScalarType::Long, "int64");
  STD_TORCH_CHECK(rows_of(logits).has_value(), "logits wants contiguous rows, got ", shape(logits));
}

// A contiguous fp32 tensor that is written to.
float* running(const char* name, const Tensor& tensor, const Tensor& tokens) {
  const Tensor dense = dense_floats(name, tensor, "tokens", tokens);
  STD_TORCH_CHECK(dense.data_ptr() == tensor.data_ptr(), name, " wants to be contiguous");
  return floats(tensor);
}

void run_linear_logp_fold(
    const Tensor& logits,
    const Tensor& tokens,
    int64_t first_token,
    int64_t vocab,
    double temperature,
    const Tensor& max,
    const Tensor& sum,
    const std::optional<Tensor>& mean,
    const Tensor& drawn) {
  check_chunk(logits, tokens);
  const Launcher launch(logits);
  const Tensor dense_tokens = torch::stable::contiguous(tokens);
  LinearLogpFold arguments{};
  arguments.storage = storage(logits);
  arguments.logits = logits.const_data_ptr();
  arguments.rows = *rows_of(logits);
  arguments.size = logits.size(logits.dim() - 1);
  arguments.first_token = first_token;
  arguments.tokens = static_cast<const int64_t*>(dense_tokens.const_data_ptr());
  arguments.inverse_temperature = static_cast<float>(1 / temperature);
  arguments.max = running("max", max, tokens);
  arguments.sum = running("sum", sum, tokens);
  arguments.mean = mean ? running("mean", *mean, tokens) : nullptr;
  arguments.drawn = running("drawn", drawn, tokens);
  const int64_t num_rows = dense_tokens.numel();
  with_storage(arguments.storage, [&](auto type) {
    using T = decltype(type);
    const auto kernel = arguments.mean ? linear_logp_fold<T, true> : linear_logp_fold<T, false>;
    const int64_t num_threads = threads_for_row(arguments.storage, arguments.size, 4);
    launch("linear_logp", kernel, num_rows, num_threads, arguments, vocab, num_rows);
  });
}

// The gradient of a chunk's logits, written over them.
void run_linear_logp_backward(
    const Tensor& logits,
    const Tensor& tokens,
    int64_t first_token,
    const Tensor& max,
    const Tensor& log_sum,
    const Tensor& entropy,
    const Tensor& grad_logp,
    const std::optional<Tensor>& grad_entropy,
    double temperature) {
  check_chunk(logits, tokens);
  const Launcher launch(logits);
  const Tensor dense_tokens = torch::stable::contiguous(tokens);
  const Tensor dense_max = dense_floats("max", max, "tokens", tokens);
  const Tensor dense_log_sum = dense_floats("log_sum", log_sum, "tokens", tokens);
  const Tensor dense_grad_logp = dense_floats("grad_logp", grad_logp, "tokens", tokens);
  std::optional<Tensor> dense_entropy, dense_grad_entropy;
  if (grad_entropy) {
    dense_entropy = dense_floats("entropy", entropy, "tokens", tokens);
    dense_grad_entropy = dense_floats("grad_entropy", *grad_entropy, "tokens", tokens);
  }
  const auto pointer = [](const std::optional<Tensor>& tensor) {
    return tensor ? static_cast<const float*>(tensor->const_data_ptr()) : nullptr;
  };
  TokenLogpBackward arguments{};
  arguments.storage = storage(logits);
  arguments.logits = logits.const_data_ptr();
  arguments.rows = *rows_of(logits);
  arguments.vocab = logits.size(logits.dim() - 1);
  arguments.first_token = first_token;
  arguments.tokens = static_cast<const int64_t*>(dense_tokens.const_data_ptr());
  arguments.inverse_temperature = static_cast<float>(1 / temperature);
  arguments.max = pointer(dense_max);
  arguments.log_sum = pointer(dense_log_sum);
  arguments.entropy = pointer(dense_entropy);
  arguments.grad_logp = pointer(dense_grad_logp);
  arguments.grad_entropy = pointer(dense_grad_entropy);
  arguments.grad_logits = logits.mutable_data_ptr();
  arguments.grad_rows = arguments.rows;
  launch_token_logp_backward(launch, arguments, dense_tokens.numel());
}

}  // namespace
}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("linear_logp_fold_", TORCH_BOX(&alignlab::cuda::run_linear_logp_fold));
  m.impl("linear_logp_backward_", TORCH_BOX(&alignlab::cuda::run_linear_logp_backward));
}
