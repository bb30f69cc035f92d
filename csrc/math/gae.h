// Generalized advantage estimation of one step (Schulman et al., 2016, arXiv 1506.02438, equations 11 and 16), as an
// affine map of what comes from the step after it, so that steps can be composed in any grouping (a scan).
#pragma once

#include "math/portable.h"

namespace alignlab {

// The carry of step t is gamma * (value_t + lam * advantage_t), which is slope * (carry of step t + 1) + offset.
// A masked step hands the carry on as it came: slope 1 and offset 0.
template <typename T>
ALIGNLAB_MATH T gae_offset(T reward, T value, T gamma, T gamma_lam) {
  return gamma * value + gamma_lam * (reward - value);
}

// `carry` is that of the next kept step: 0 after the last.
template <typename T>
ALIGNLAB_MATH T gae_advantage(T reward, T value, T carry) {
  return reward - value + carry;
}

}  // namespace alignlab
