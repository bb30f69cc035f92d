// linear_logp on the CPU: a chunk of the vocabulary at a time; alignlab/ops/linear_logp.py has the matrix products.
#include <optional>

#include <torch/csrc/stable/library.h>

#include "cpu/kernels.h"
#include "cpu/tokens.h"
#include "layout.h"

namespace alignlab {
namespace {

using torch::stable::Tensor;

void check_chunk(const Tensor& logits, const Tensor& tokens) {
  check_native_dtype("logits", logits);
  check_one_a_row("tokens", tokens, "logits", logits);
  STD_TORCH_CHECK(rows_of(logits).has_value(), "logits wants contiguous rows, got ", shape(logits));
}

// A contiguous fp32 tensor that is written to.
float* running(const char* name, const Tensor& tensor, const Tensor& tokens) {
  const Tensor dense = dense_floats(name, tensor, "tokens", tokens);
  STD_TORCH_CHECK(dense.data_ptr() == tensor.data_ptr(), name, " wants to be contiguous");
  return floats(tensor);
}

void linear_logp_fold(
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
  const Tensor dense_tokens = checked_tokens(tokens, vocab);
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
  torch::stable::parallel_for(
      0, dense_tokens.numel(), rows_per_thread(arguments.size), [&](int64_t begin, int64_t end) {
        kernels().linear_logp_fold(arguments, begin, end);
      });
}

// The gradient of a chunk's logits, written over them.
void linear_logp_backward(
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
  arguments.max = static_cast<const float*>(dense_max.const_data_ptr());
  arguments.log_sum = static_cast<const float*>(dense_log_sum.const_data_ptr());
  arguments.entropy = pointer(dense_entropy);
  arguments.grad_logp = pointer(dense_grad_logp);
  arguments.grad_entropy = pointer(dense_grad_entropy);
  arguments.grad_logits = logits.mutable_data_ptr();
  arguments.grad_rows = arguments.rows;
  torch::stable::parallel_for(
      0, dense_tokens.numel(), rows_per_thread(arguments.vocab), [&](int64_t begin, int64_t end) {
        kernels().token_logp_backward(arguments, begin, end);
      });
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("linear_logp_fold_", TORCH_BOX(&alignlab::linear_logp_fold));
  m.impl("linear_logp_backward_", TORCH_BOX(&alignlab::linear_logp_backward));
}
