// kl_divergence on CUDA: a block a row, both softmaxes and the mean of their log-ratio in one pass; backward likewise.
#include <optional>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "cuda/launch.cuh"
#include "cuda/map_row.cuh"
#include "cuda/softmax.cuh"
#include "layout.h"
#include "math/kl_divergence.h"

namespace alignlab::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kPairThreads = 256;  // a thread works on two rows at once, and has registers for it

// Sums of exp(z - base) of p and of q, and of exp(z_p - base_p) * ((z_p - base_p) - (z_q - base_q)): relative to bases
// of their own, so that logits with a large common offset do not cancel.
struct RunningKl {
  RunningSoftmax<false> p;
  RunningSoftmax<false> q;
  float mean = 0;

  // An infinite mean of what p has no share in after all would be NaN: inf * 0.
  ALIGNLAB_MATH void rebase_p(float to) {
    const float gap = fmaxf(p.base - to, kGapOfNothing);
    const float factor = fast_exp(gap);
    mean = factor > 0 ? fmaf(p.sum, gap, mean) * factor : 0;
    p.sum *= factor;
    p.base = to;
  }
  ALIGNLAB_MATH void rebase_q(float to) {
    const float gap = fmaxf(q.base - to, kGapOfNothing);
    mean = p.sum > 0 ? fmaf(p.sum, -gap, mean) : mean;
    q.sum *= fast_exp(gap);
    q.base = to;
  }

  template <int64_t kCount>
  ALIGNLAB_MATH void add(const float (&x)[kCount], const float (&y)[kCount], float scale) {
    float top_p = x[0];
    float top_q = y[0];
#pragma unroll
    for (int64_t i = 1; i < kCount; ++i) {
      top_p = fmaxf(top_p, x[i]);
      top_q = fmaxf(top_q, y[i]);
    }
    if (top_p * scale > p.base) {
      rebase_p(top_p * scale);
    }
    if (top_q * scale > q.base) {
      rebase_q(top_q * scale);
    }
#pragma unroll
    for (int64_t i = 0; i < kCount; ++i) {
      const float z_p = fmaf(x[i], scale, -p.base);
      const float z_q = fmaf(y[i], scale, -q.base);
      const float e = fast_exp(z_p);
      p.sum += e;
      q.sum += fast_exp(z_q);
      // A token that p cannot draw adds nothing, whatever q says.
      mean = e > 0 ? fmaf(e, z_p - z_q, mean) : mean;
    }
  }

  ALIGNLAB_MATH static RunningKl join(RunningKl a, RunningKl b) {
    const float to_p = fmaxf(a.p.base, b.p.base);
    const float to_q = fmaxf(a.q.base, b.q.base);
    a.rebase_p(to_p);
    b.rebase_p(to_p);
    a.rebase_q(to_q);
    b.rebase_q(to_q);
    a.p.sum += b.p.sum;
    a.q.sum += b.q.sum;
    a.mean += b.mean;
    return a;
  }
};

template <typename T>
__device__ __forceinline__ RunningKl run_over_rows(const T* x, const T* y, int64_t n, float scale) {
  constexpr int64_t kLoads = 2;  // of each, on their way at a time
  RunningKl running;
  const Span span = span_of(x, n);
  const bool y_is_aligned = same_boundaries(x, y);
  const auto add_one = [&](int64_t i) {
    const float one_x[1] = {static_cast<float>(x[i])};
    const float one_y[1] = {static_cast<float>(y[i])};
    running.add(one_x, one_y, scale);
  };
  if (threadIdx.x < span.head) {
    add_one(threadIdx.x);
  }
  for (int64_t first = threadIdx.x; first < span.num_packs; first += kLoads * blockDim.x) {
    Pack loaded_x[kLoads];
    Pack loaded_y[kLoads];
#pragma unroll
    for (int64_t k = 0; k < kLoads; ++k) {
      if (first + k * blockDim.x < span.num_packs) {
        const int64_t at = span.head + (first + k * blockDim.x) * kPerPack<T>;
        loaded_x[k] = load_pack(x + at, true);
        loaded_y[k] = load_pack(y + at, y_is_aligned);
      }
    }
#pragma unroll
    for (int64_t k = 0; k < kLoads; ++k) {
      if (first + k * blockDim.x < span.num_packs) {
        float values_x[kPerPack<T>];
        float values_y[kPerPack<T>];
#pragma unroll
        for (int64_t i = 0; i < kPerPack<T>; ++i) {
          values_x[i] = element(loaded_x[k], i, T{});
          values_y[i] = element(loaded_y[k], i, T{});
        }
        running.add(values_x, values_y, scale);
      }
    }
  }
  if (span.tail + threadIdx.x < n) {
    add_one(span.tail + threadIdx.x);
  }
  return reduce_block(running, RunningKl{}, RunningKl::join);
}

template <typename T>
__global__ void __launch_bounds__(kPairThreads) kl_divergence_forward(const KlDivergence a, int64_t num_rows) {
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const T* x = static_cast<const T*>(a.logits_p) + a.p_rows.offset(row);
    const T* y = static_cast<const T*>(a.logits_q) + a.q_rows.offset(row);
    const RunningKl kl = run_over_rows(x, y, a.vocab, a.inverse_temperature);
    if (threadIdx.x == 0) {
      const float log_sum_p = kl.p.log_sum();
      const float log_sum_q = kl.q.log_sum();
      a.kl[row] = kl.mean / kl.p.sum - log_sum_p + log_sum_q;
      a.max_p[row] = kl.p.base;
      a.log_sum_p[row] = log_sum_p;
      a.max_q[row] = kl.q.base;
      a.log_sum_q[row] = log_sum_q;
    }
  }
}

struct KlGradient {
  float scale;
  float max_p;
  float max_q;
  float gap;  // log_sum_p - log_sum_q
  float kl;
  float factor_p;  // grad / (temperature * sum_p)
  float factor_q;

  template <int64_t kCount>
  ALIGNLAB_MATH void at(int64_t, const float (&x)[2][kCount], float (&grad)[2][kCount]) const {
#pragma unroll
    for (int64_t i = 0; i < kCount; ++i) {
      const float z_p = fmaf(x[0][i], scale, -max_p);
      const float z_q = fmaf(x[1][i], scale, -max_q);
      const float e = fast_exp(z_p);
      const float p = e * factor_p;
      grad[0][i] = e > 0 ? kl_gradient_p(p, z_p - z_q - gap, kl) : 0;
      grad[1][i] = fmaf(fast_exp(z_q), factor_q, -p);
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(kPairThreads)
    kl_divergence_backward(const KlDivergenceBackward a, int64_t num_rows) {
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const T* x = static_cast<const T*>(a.logits_p) + a.p_rows.offset(row);
    const T* y = static_cast<const T*>(a.logits_q) + a.q_rows.offset(row);
    T* grad_p = a.grad_p ? static_cast<T*>(a.grad_p) + a.grad_p_rows.offset(row) : nullptr;
    T* grad_q = a.grad_q ? static_cast<T*>(a.grad_q) + a.grad_q_rows.offset(row) : nullptr;
    const float grad = a.grad[row] * a.inverse_temperature;
    const float log_sum_p = a.log_sum_p[row];
    const float log_sum_q = a.log_sum_q[row];
    const KlGradient gradient{
        a.inverse_temperature,
        a.max_p[row],
        a.max_q[row],
        log_sum_p - log_sum_q,
        a.kl[row],
        grad * expf(-log_sum_p),
        grad * expf(-log_sum_q)};
    map_row<T, 2, 2>({x, y}, {grad_p, grad_q}, a.vocab, gradient);
  }
}

void check_logits(const Tensor& logits_p, const Tensor& logits_q) {
  STD_TORCH_CHECK(logits_p.dim() > 0, "logits_p wants shape [..., V], got ", shape(logits_p));
  check_native_dtype("logits_p", logits_p);
  check_like("logits_q", logits_q, "logits_p", logits_p);
  STD_TORCH_CHECK(logits_q.scalar_type() == logits_p.scalar_type(), "logits_q wants the dtype of logits_p");
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> run_kl_divergence(
    const Tensor& logits_p, const Tensor& logits_q, double temperature) {
  check_logits(logits_p, logits_q);
  const Launcher launch(logits_p);
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
  const int64_t num_rows = kl.numel();
  with_storage(arguments.storage, [&](auto type) {
    const auto kernel = kl_divergence_forward<decltype(type)>;
    const int64_t num_threads = threads_for_row(arguments.storage, arguments.vocab, 2, kPairThreads);
    launch("kl_divergence", kernel, num_rows, num_threads, arguments, num_rows);
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
  const Launcher launch(logits_p);
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
  const int64_t num_rows = kl.numel();
  const int64_t num_threads = threads_for_row(arguments.storage, arguments.vocab, 2, kPairThreads);
  with_storage(arguments.storage, [&](auto type) {
    const auto kernel = kl_divergence_backward<decltype(type)>;
    launch("kl_divergence_backward", kernel, num_rows, num_threads, arguments, num_rows);
  });
}

std::optional<Tensor> if_wanted(bool wanted, const Tensor& tensor) {
  return wanted ? std::optional<Tensor>(tensor) : std::nullopt;
}

std::tuple<Tensor, Tensor> run_kl_divergence_backward(
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
  Tensor grad_p = new_grad(wants_p, logits_p);
  Tensor grad_q = new_grad(wants_q, logits_q);
  fill_gradients(
      grad, logits_p, logits_q, kl, max_p, log_sum_p, max_q, log_sum_q, temperature, if_wanted(wants_p, grad_p),
      if_wanted(wants_q, grad_q));
  return {grad_p, grad_q};
}

void run_kl_divergence_backward_inplace(
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
  STD_TORCH_CHECK(
      logits_p.data_ptr() != logits_q.data_ptr() || logits_p.numel() == 0,
      "inplace_backward wants logits_p and logits_q to be two tensors");
  fill_gradients(
      grad, logits_p, logits_q, kl, max_p, log_sum_p, max_q, log_sum_q, temperature, if_wanted(wants_p, logits_p),
      if_wanted(wants_q, logits_q));
}

}  // namespace
}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("kl_divergence", TORCH_BOX(&alignlab::cuda::run_kl_divergence));
  m.impl("kl_divergence_backward", TORCH_BOX(&alignlab::cuda::run_kl_divergence_backward));
  m.impl("kl_divergence_backward_", TORCH_BOX(&alignlab::cuda::run_kl_divergence_backward_inplace));
}
