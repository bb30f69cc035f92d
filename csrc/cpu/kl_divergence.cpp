// kl_divergence on the CPU; the loops are in loops/kl_divergence.h.
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "cpu/kernels.h"
#include "layout.h"

namespace alignlab {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void check_logits(const Tensor& logits_p, const Tensor& logits_q) {
  STD_TORCH_CHECK(logits_p.dim() > 0, "logits_p wants shape [..., V], got ", shape(logits_p));
  check_native_dtype("logits_p", logits_p);
  check_like("logits_q", logits_q, "logits_p", logits_p);
  STD_TORCH_CHECK(logits_q.scalar_type() == logits_p.scalar_type(), "logits_q wants the dtype of logits_p");
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> kl_divergence(
    const Tensor& logits_p, const Tensor& logits_q, double temperature) {
  check_logits(logits_p, logits_q);
  const RowView p(logits_p);
  const RowView q(logits_q);
  const int64_t last = logits_p.dim() - 1;
  const auto of_rows = [&] {
    return torch::stable::new_empty(logits_p, logits_p.sizes().slice(0, static_cast<size_t>(last)), ScalarType::Float);
  };
  Tensor kl = of_rows();
  Tensor max_p = of_rows();
  Tensor log_sum_p = of_rows();
  Tensor max_q = of_rows();
  Tensor log_sum_q = of_rows();
  KlDivergence arguments{};
  arguments.storage = storage(logits_p);
  arguments.logits_p = p.tensor.const_data_ptr();
  arguments.logits_q = q.tensor.const_data_ptr();
  arguments.p_rows = p.rows;
  arguments.q_rows = q.rows;
  arguments.vocab = logits_p.size(last);
  arguments.inverse_temperature = static_cast<float>(1 / temperature);
  arguments.kl = floats(kl);
  arguments.max_p = floats(max_p);
  arguments.log_sum_p = floats(log_sum_p);
  arguments.max_q = floats(max_q);
  arguments.log_sum_q = floats(log_sum_q);
  torch::stable::parallel_for(
      0, num_rows(logits_p), rows_per_thread(arguments.vocab), [&](int64_t begin, int64_t end) {
        kernels().kl_divergence(arguments, begin, end);
      });
  return {kl, max_p, log_sum_p, max_q, log_sum_q};
}

// Fill the gradients that are there; they may be the logits themselves.
void fill_gradients(
    const Tensor& grad,
    const Tensor& logits_p,
    const Tensor& logits_q,
    const Tensor& kl,
    const Tensor& max_p,
    const Tensor& log_sum_p,
    const Tensor& max_q,
    const Tensor& log_sum_q,
    double temperature,
    const std::optional<Tensor>& grad_p,
    const std::optional<Tensor>& grad_q) {
  check_logits(logits_p, logits_q);
  check_one_a_row("kl", kl, "logits_p", logits_p);
  const RowView p(logits_p);
  const RowView q(logits_q);
  const Tensor statistics[] = {
      dense_floats("kl", kl, "kl", kl),
      dense_floats("max_p", max_p, "kl", kl),
      dense_floats("log_sum_p", log_sum_p, "kl", kl),
      dense_floats("max_q", max_q, "kl", kl),
      dense_floats("log_sum_q", log_sum_q, "kl", kl),
      dense_floats("grad", grad, "kl", kl)};
  const auto pointer = [&](int64_t i) { return static_cast<const float*>(statistics[i].const_data_ptr()); };
  KlDivergenceBackward arguments{};
  arguments.storage = storage(logits_p);
  arguments.logits_p = p.tensor.const_data_ptr();
  arguments.logits_q = q.tensor.const_data_ptr();
  arguments.p_rows = p.rows;
  arguments.q_rows = q.rows;
  arguments.vocab = logits_p.size(logits_p.dim() - 1);
  arguments.inverse_temperature = static_cast<float>(1 / temperature);
  arguments.kl = pointer(0);
  arguments.max_p = pointer(1);
  arguments.log_sum_p = pointer(2);
  arguments.max_q = pointer(3);
  arguments.log_sum_q = pointer(4);
  arguments.grad = pointer(5);
  if (grad_p) {
    arguments.grad_p = grad_p->mutable_data_ptr();
    arguments.grad_p_rows = *rows_of(*grad_p);
  }
  if (grad_q) {
    arguments.grad_q = grad_q->mutable_data_ptr();
    arguments.grad_q_rows = *rows_of(*grad_q);
  }
  // Rows of both have to begin at the same place of a cache line; fresh tensors do, from torch's allocator.
  const auto place = [](void* data) { return reinterpret_cast<uintptr_t>(data) % 64; };
  const bool is_even = !grad_p || !grad_q || place(arguments.grad_p) == place(arguments.grad_q);
  const bool is_fresh = arguments.grad_p != arguments.logits_p && arguments.grad_q != arguments.logits_q;
  arguments.stream = is_even && is_fresh && is_larger_than_caches(logits_p);
  torch::stable::parallel_for(
      0, num_rows(logits_p), rows_per_thread(arguments.vocab), [&](int64_t begin, int64_t end) {
        kernels().kl_divergence_backward(arguments, begin, end);
      });
}

std::tuple<Tensor, Tensor> kl_divergence_backward(
    const Tensor& grad,
    const Tensor& logits_p,
    const Tensor& logits_q,
    const Tensor& kl,
    const Tensor& max_p,
    const Tensor& log_sum_p,
    const Tensor& max_q,
    const Tensor& log_sum_q,
    double temperature,
    bool wants_p,
    bool wants_q) {
  const auto new_grad = [&](bool wanted, const Tensor& logits) {
    return wanted ? torch::stable::new_empty(logits, logits.sizes()) : torch::stable::new_empty(logits, {0});
  };
  const auto if_wanted = [](bool wanted, const Tensor& tensor) {
    return wanted ? std::optional<Tensor>(tensor) : std::nullopt;
  };
  Tensor grad_p = new_grad(wants_p, logits_p);
  Tensor grad_q = new_grad(wants_q, logits_q);
  fill_gradients(
      grad, logits_p, logits_q, kl, max_p, log_sum_p, max_q, log_sum_q, temperature,
      if_wanted(wants_p, grad_p), if_wanted(wants_q, grad_q));
  return {grad_p, grad_q};
}

void kl_divergence_backward_inplace(
    const Tensor& grad,
    const Tensor& logits_p,
    const Tensor& logits_q,
    const Tensor& kl,
    const Tensor& max_p,
    const Tensor& log_sum_p,
    const Tensor& max_q,
    const Tensor& log_sum_q,
    double temperature,
    bool wants_p,
    bool wants_q) {
  STD_TORCH_CHECK(
      rows_of(logits_p).has_value() && rows_of(logits_q).has_value(),
      "inplace_backward wants logits whose rows are contiguous, got ", shape(logits_p));
  STD_TORCH_CHECK(logits_p.data_ptr() != logits_q.data_ptr() || logits_p.numel() == 0,
      "inplace_backward wants logits_p and logits_q to be two tensors");
  fill_gradients(
      grad, logits_p, logits_q, kl, max_p, log_sum_p, max_q, log_sum_q, temperature,
      wants_p ? std::optional<Tensor>(logits_p) : std::nullopt,
      wants_q ? std::optional<Tensor>(logits_q) : std::nullopt);
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("kl_divergence", TORCH_BOX(&alignlab::kl_divergence));
  m.impl("kl_divergence_backward", TORCH_BOX(&alignlab::kl_divergence_backward));
  m.impl("kl_divergence_backward_", TORCH_BOX(&alignlab::kl_divergence_backward_inplace));
}
