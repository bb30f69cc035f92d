// All loops, once per including file. Included by isa_*.cpp and by nothing else.
#pragma once

#include "cpu/kernels.h"
#include "cpu/loops/gae.h"
#include "cpu/loops/kl_divergence.h"
#include "cpu/loops/kl_estimate.h"
#include "cpu/loops/linear_logp.h"
#include "cpu/loops/masked_whiten.h"
#include "cpu/loops/ppo_policy_loss.h"
#include "cpu/loops/ppo_value_loss.h"
#include "cpu/loops/token_logp.h"

namespace alignlab::ALIGNLAB_ISA {

// In the order of struct Kernels.
constexpr Kernels table(const char* capability) {
  return {
      capability,
      token_logp,
      token_logp_backward,
      linear_logp_fold,
      kl_divergence,
      kl_divergence_backward,
      kl_estimate,
      gae,
      masked_moments,
      masked_whiten,
      masked_whiten_backward_sums,
      masked_whiten_backward,
      ppo_policy_loss,
      ppo_value_loss,
  };
}

}  // namespace alignlab::ALIGNLAB_ISA
