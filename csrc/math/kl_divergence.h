// The gradient of KL(p || q) with respect to one logit of p and one of q.
#pragma once

#include "math/portable.h"

namespace alignlab {

// With z = logit / temperature - max of its row: p = exp(z_p) / sum_p, and log p - log q = z_p - z_q - gap, where
// gap = log_sum_p - log_sum_q. Then d KL / d z_p = p * (log p - log q - KL) and d KL / d z_q = q - p.
template <typename T>
ALIGNLAB_MATH T kl_gradient_p(T p, T log_ratio, T kl) {
  return p * (log_ratio - kl);
}

}  // namespace alignlab
