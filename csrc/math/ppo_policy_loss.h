// The clipped policy loss of one token (Schulman et al., 2017, arXiv 1707.06347, equation 7; dual clip: Ye et al., 2020,
// arXiv 1912.09729, equation 5), and its gradient with respect to the log-prob.
#pragma once

#include "math/scalar.h"

namespace alignlab {

struct PolicyClip {
  float low;   // the smallest ratio, 1 - clip_low
  float high;  // the largest, 1 + clip_high
  float dual;  // inf for none
};

template <typename T, typename M>
struct PolicyTerm {
  T loss;
  T gradient;
  M is_clipped;
  M is_dual_clipped;
  T kl;  // k3 estimate of KL(old policy || policy)
};

// log_ratio is logp - old_logp. Beyond +-20 it is clamped, before exp, and has no gradient.
template <typename T>
ALIGNLAB_MATH auto policy_term(T log_ratio, T advantage, PolicyClip clip) {
  const T bounded = min(T(20.0f), max(T(-20.0f), log_ratio));
  const T ratio = exp(bounded);
  const T unclipped = -(advantage * ratio);
  const T clipped = -(advantage * min(T(clip.high), max(T(clip.low), ratio)));
  const auto is_clipped = clipped > unclipped;
  const T single = max(unclipped, clipped);
  const T bound = -(T(clip.dual) * advantage);
  const auto is_dual_clipped = (T(0.0f) > advantage) & (single > bound);
  const auto is_beyond = (log_ratio > T(20.0f)) | (T(-20.0f) > log_ratio);
  const T gradient = select(is_clipped | is_dual_clipped | is_beyond, T(0.0f), unclipped);
  using M = decltype(clipped > unclipped);
  return PolicyTerm<T, M>{
      select(is_dual_clipped, bound, single), gradient, is_clipped, M(is_dual_clipped), expm1(bounded) - bounded};
}

}  // namespace alignlab
