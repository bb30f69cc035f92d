// token_logp on the CPU: checks, memory and threads; the loops are in loops/token_logp.h.
#include <algorithm>
#include <optional>
#include <sstream>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "cpu/kernels.h"
#include "layout.h"

namespace alignlab {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kStreamBytes = int64_t{8} << 20;  // a result that the caches would not keep anyway

std::string position(const Tensor& tensor, int64_t index) {
  std::string text = "]";
  for (int64_t dim = tensor.dim() - 1; dim >= 0; --dim) {
    text = (dim ? ", " : "[") + std::to_string(index % tensor.size(dim)) + text;
    index /= tensor.size(dim);
  }
  return tensor.dim() ? text : "[]";
}

Tensor checked_tokens(const Tensor& logits, const Tensor& tokens) {
  check_native_dtype("logits", logits);
  check_one_a_row("tokens", tokens, "logits", logits);
  check_dtype("tokens", tokens, ScalarType::Long, "int64");
  const Tensor dense = torch::stable::contiguous(tokens);
  const int64_t* token = static_cast<const int64_t*>(dense.const_data_ptr());
  const int64_t vocab = logits.size(logits.dim() - 1);
  for (int64_t i = 0; i < dense.numel(); ++i) {
    STD_TORCH_CHECK(
        token[i] >= 0 && token[i] < vocab,
        "tokens wants values in [0, ", vocab, "), got ", token[i], " at ", position(tokens, i));
  }
  return dense;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> token_logp(
    const Tensor& logits, const Tensor& tokens, double temperature, bool entropy) {
  const Tensor dense_tokens = checked_tokens(logits, tokens);
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
  const Tensor dense_tokens = checked_tokens(logits, tokens);
  const RowView view(logits);
  const auto dense = [&](const char* name, const Tensor& given) {
    check_like(name, given, "tokens", tokens);
    check_dtype(name, given, ScalarType::Float, "float32");
    return torch::stable::contiguous(given);
  };
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
  const int64_t bytes = logits.numel() * (arguments.storage == Storage::kFloat ? 4 : 2);
  arguments.stream = arguments.grad_logits != arguments.logits && bytes >= kStreamBytes;
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
