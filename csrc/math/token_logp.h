// The log-prob of one token, and the gradient of log-prob and entropy with respect to one logit.
#pragma once

#include "math/scalar.h"

namespace alignlab {

// The maximum goes first: z - (max + log_sum) would round at the size of max. And z - max is rounded as it is where the
// sum is taken: rounded otherwise, a logit of 6e4 would be off by 1e-3.
template <typename T>
ALIGNLAB_MATH T logp_of(T logit, T inverse_temperature, T max, T log_sum) {
  return fma(logit, inverse_temperature, -max) - log_sum;
}

// With e = exp(z - max) of a logit, the gradient with respect to it is e * (offset + slope * (z - max)), and for the
// drawn token grad_logp / temperature is added. It follows from d logp / dz = [drawn] - p and
// d entropy / dz = -p * (log p + entropy), with p = e / sum and log p = z - max - log_sum.
template <typename T>
struct LogpGradient {
  T slope;
  T offset;
};

template <typename T>
ALIGNLAB_MATH LogpGradient<T> logp_gradient(
    T grad_logp, T grad_entropy, T entropy, T log_sum, T inverse_sum, T inverse_temperature) {
  const T factor = inverse_sum * inverse_temperature;
  return {-grad_entropy * factor, -(grad_logp + grad_entropy * (entropy - log_sum)) * factor};
}

}  // namespace alignlab
