// Estimates of KL(policy || reference) at one drawn token, with their derivatives (Schulman, "Approximating KL divergence").
#pragma once

#include "math/scalar.h"

namespace alignlab {

enum class KlEstimator : int64_t { kK1 = 1, kK2 = 2, kK3 = 3 };

template <typename T>
struct KlEstimate {
  T estimate;
  T derivative;  // with respect to logp; the one with respect to ref_logp is its negative
};

// log_ratio is logp - ref_logp.
template <KlEstimator kKind, typename T>
ALIGNLAB_MATH KlEstimate<T> kl_estimate_of(T log_ratio) {
  if constexpr (kKind == KlEstimator::kK1) {
    return {log_ratio, T(1.0f)};
  } else if constexpr (kKind == KlEstimator::kK2) {
    return {T(0.5f) * log_ratio * log_ratio, log_ratio};
  } else {
    // Clamped before exp: clamping its inf afterwards leaves a NaN gradient.
    const T bounded = min(T(20.0f), max(T(-20.0f), log_ratio));
    const T rest = expm1(-bounded);
    const auto is_beyond = (log_ratio > T(20.0f)) | (T(-20.0f) > log_ratio);
    return {rest + bounded, select(is_beyond, T(0.0f), -rest)};
  }
}

}  // namespace alignlab
