// kl_divergence: both softmaxes and the mean of their log-ratio in one pass.
#pragma once

#include "cpu/loops/map_row.h"
#include "cpu/loops/softmax.h"
#include "math/kl_divergence.h"

namespace alignlab::ALIGNLAB_ISA {

// Lane by lane as RunningSoftmax: sums of exp(z - base) for p and q, and of exp(z_p - base_p) * (log-ratio so far), where
// the ratio is between the two exps, relative to bases of their own: logits with a large common offset do not cancel.
struct RunningKl {
  RunningSoftmax<false> p;
  RunningSoftmax<false> q;
  Vec mean = set(0);

  ALIGNLAB_MATH explicit RunningKl(float inverse_temperature) : p(inverse_temperature), q(inverse_temperature) {}

  ALIGNLAB_MATH void rebase_p(Vec to) {
    const Vec gap = max(set(-1e30f), p.base - to);
    const Vec factor = exp(gap);
    mean = zero_unless(factor > set(0), fma(p.sum, gap, mean) * factor);  // inf where q cannot draw, and p underflows
    p.rebase(to);
  }
  // What p has no share in stays out: 0 * inf would be NaN.
  ALIGNLAB_MATH void rebase_q(Vec to) {
    const Vec gap = max(set(-1e30f), q.base - to);
    mean = select(p.sum > set(0), fma(p.sum, -gap, mean), mean);
    q.rebase(to);
  }

  template <int64_t kCount>
  ALIGNLAB_MATH void add(const Vec (&x)[kCount], const Vec (&y)[kCount]) {
    const Vec to_p = p.track(x);
    if (any(to_p > p.base + set(RunningSoftmax<false>::kSlack))) {
      rebase_p(to_p);
    }
    const Vec to_q = q.track(y);
    if (any(to_q > q.base + set(RunningSoftmax<false>::kSlack))) {
      rebase_q(to_q);
    }
    for (int64_t i = 0; i < kCount; ++i) {
      const Vec z_p = fma(x[i], p.scale, -p.base);
      const Vec z_q = fma(y[i], q.scale, -q.base);
      const Vec e = exp(z_p);
      p.sum = p.sum + e;
      q.sum = q.sum + exp(z_q);
      // A token that p cannot draw adds nothing, whatever q says.
      mean = mean + zero_unless(e > set(0), e * (z_p - z_q));
    }
  }
};

template <typename T>
void kl_divergence_rows(const KlDivergence& a, int64_t begin, int64_t end) {
  constexpr int64_t kCount = Vec::kBlock / 2;
  constexpr int64_t kBlock = kCount * Vec::kSize;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.logits_p) + a.p_rows.offset(row);
    const T* y = static_cast<const T*>(a.logits_q) + a.q_rows.offset(row);
    RunningKl running(a.inverse_temperature);
    int64_t i = 0;
    for (; i + kBlock <= a.vocab; i += kBlock) {
      Vec p[kCount], q[kCount];
      prefetch<kBlock>(x + i);
      prefetch<kBlock>(y + i);
      for (int64_t pair = 0; pair < kCount; pair += 2) {
        load_pair(x + i + pair * Vec::kSize, p[pair], p[pair + 1]);
        load_pair(y + i + pair * Vec::kSize, q[pair], q[pair + 1]);
      }
      running.add(p, q);
    }
    for (; i < a.vocab; i += kPair) {
      Vec p[2], q[2];
      load_some(x + i, a.vocab - i, Fill<T>::kMinusInfinity, p[0], p[1]);
      load_some(y + i, a.vocab - i, Fill<T>::kMinusInfinity, q[0], q[1]);
      running.add(p, q);
    }
    const float max_p = running.p.largest();
    const float max_q = running.q.largest();
    running.rebase_p(set(max_p));
    running.rebase_q(set(max_q));
    const float sum_p = reduce_add(running.p.sum);
    const Softmax p = running.p.finish();
    const Softmax q = running.q.finish();
    a.kl[row] = reduce_add(running.mean) / sum_p - p.log_sum + q.log_sum;
    a.max_p[row] = p.max;
    a.log_sum_p[row] = p.log_sum;
    a.max_q[row] = q.max;
    a.log_sum_q[row] = q.log_sum;
  }
}

void kl_divergence(const KlDivergence& a, int64_t begin, int64_t end) {
  with_storage(a.storage, [&](auto type) { kl_divergence_rows<decltype(type)>(a, begin, end); });
}

struct KlGradient {
  Vec scale;
  Vec max_p;
  Vec max_q;
  Vec gap;  // log_sum_p - log_sum_q
  Vec kl;
  Vec factor_p;  // grad / (temperature * sum_p)
  Vec factor_q;

  ALIGNLAB_MATH void operator()(const Vec (&x)[2], Vec (&grad)[2]) const {
    const Vec z_p = fma(x[0], scale, -max_p);
    const Vec z_q = fma(x[1], scale, -max_q);
    const Vec e = exp(z_p);
    const Vec p = e * factor_p;
    grad[0] = zero_unless(e > set(0), kl_gradient_p(p, z_p - z_q - gap, kl));
    grad[1] = fma(exp(z_q), factor_q, -p);
  }
};

template <typename T>
void kl_divergence_backward_rows(const KlDivergenceBackward& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(a.logits_p) + a.p_rows.offset(row);
    const T* y = static_cast<const T*>(a.logits_q) + a.q_rows.offset(row);
    const float grad = a.grad[row] * a.inverse_temperature;
    const KlGradient gradient{
        set(a.inverse_temperature),
        set(a.max_p[row]),
        set(a.max_q[row]),
        set(a.log_sum_p[row] - a.log_sum_q[row]),
        set(a.kl[row]),
        set(grad * __builtin_expf(-a.log_sum_p[row])),
        set(grad * __builtin_expf(-a.log_sum_q[row]))};
    T* grad_p = a.grad_p ? static_cast<T*>(a.grad_p) + a.grad_p_rows.offset(row) : nullptr;
    T* grad_q = a.grad_q ? static_cast<T*>(a.grad_q) + a.grad_q_rows.offset(row) : nullptr;
    map_row<2, T>({x, y}, {grad_p, grad_q}, a.vocab, a.stream, gradient);
  }
  if (a.stream) {
    fence();
  }
}

void kl_divergence_backward(const KlDivergenceBackward& a, int64_t begin, int64_t end) {
  with_storage(a.storage, [&](auto type) { kl_divergence_backward_rows<decltype(type)>(a, begin, end); });
}

}  // namespace alignlab::ALIGNLAB_ISA
