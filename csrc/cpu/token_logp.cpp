// token_logp on the CPU: checks, memory and threads; the loops are in loops/token_logp.h.
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "cpu/kernels.h"
#include "cpu/tokens.h"
#include "layout.h"

namespace alignlab {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

std::tuple<Tensor, Tensor, Tensor, Tensor> token_logp(
    const Tensor& logits, const Tensor& tokens, double temperature, bool entropy) {
  check_native_dtype("logits", logits);
  check_one_a_row("tokens", tokens, "logits", logits);
  const Tensor dense_tokens = checked_tokens(tokens, logits.size(logits.dim() - 1));
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
  torch::stable::parallel_for(
      0, dense_tokens.numel(), rows_per_thread(arguments.vocab), [&](int64_t begin, int64_t end) {
        kernels().token_logp(arguments, begin, end);
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
  const Tensor dense_tokens = checked_tokens(tokens, logits.size(logits.dim() - 1));
  const RowView view(logits);
  const auto dense = [&](const char* name, const Tensor& given) { return dense_floats(name, given, "tokens", tokens); };
  const auto maybe_dense = [&](const char* name, const std::optional<Tensor>& given) {
    return given ? std::optional<Tensor>(dense(name, *given)) : std::nullopt;
  };
  const Tensor dense_max = dense("max", max);
  const Tensor dense_log_sum = dense("log_sum", log_sum);
  const std::optional<Tensor> dense_grad_logp = maybe_dense("grad_logp", grad_logp);
  const std::optional<Tensor> dense_grad_entropy = maybe_dense("grad_entropy", grad_entropy);
  const std::optional<Tensor> dense_entropy =
      grad_entropy ? std::optional<Tensor>(dense("entropy", entropy)) : std::nullopt;
  const auto pointer = [](const std::optional<Tensor>& tensor) {
    return tensor ? static_cast<const float*>(tensor->const_data_ptr()) : nullptr;
  };
  TokenLogpBackward arguments{};
  arguments.storage = storage(logits);
  arguments.logits = view.tensor.const_data_ptr();
  arguments.rows = view.rows;
  arguments.vocab = logits.size(logits.dim() - 1);
  arguments.tokens = static_cast<const int64_t*>(dense_tokens.const_data_ptr());
  arguments.inverse_temperature = static_cast<float>(1 / temperature);
  arguments.max = static_cast<const float*>(dense_max.const_data_ptr());
  arguments.log_sum = static_cast<const float*>(dense_log_sum.const_data_ptr());
  arguments.entropy = pointer(dense_entropy);
  arguments.grad_logp = pointer(dense_grad_logp);
  arguments.grad_entropy = pointer(dense_grad_entropy);
  arguments.grad_logits = grad_logits.mutable_data_ptr();
  arguments.grad_rows = *rows_of(grad_logits);
  arguments.stream = arguments.grad_logits != arguments.logits && is_larger_than_caches(grad_logits);
  torch::stable::parallel_for(
      0, dense_tokens.numel(), rows_per_thread(arguments.vocab), [&](int64_t begin, int64_t end) {
        kernels().token_logp_backward(arguments, begin, end);
      });
}

Tensor token_logp_backward(
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

void token_logp_backward_inplace(
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
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("token_logp", TORCH_BOX(&alignlab::token_logp));
  m.impl("token_logp_backward", TORCH_BOX(&alignlab::token_logp_backward));
  m.impl("token_logp_backward_", TORCH_BOX(&alignlab::token_logp_backward_inplace));
}
