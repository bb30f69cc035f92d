// The loops that are compiled once per instruction set, as a table: host code calls kernels().<op>(arguments, rows).
#pragma once

#include "arguments.h"

namespace alignlab {

// Arguments, and a range of rows, or of chunks where tensors hold one number a token.
template <typename Arguments>
using Loop = void (*)(const Arguments&, int64_t begin, int64_t end);

struct Kernels {
  const char* capability;
  Loop<TokenLogp> token_logp;
  Loop<TokenLogpBackward> token_logp_backward;
  Loop<LinearLogpFold> linear_logp_fold;
  Loop<KlDivergence> kl_divergence;
  Loop<KlDivergenceBackward> kl_divergence_backward;
  Loop<KlEstimates> kl_estimate;
  Loop<Gae> gae;
  Loop<MaskedMoments> masked_moments;
  Loop<MaskedWhiten> masked_whiten;
  Loop<MaskedWhitenBackward> masked_whiten_backward_sums;
  Loop<MaskedWhitenBackward> masked_whiten_backward;
  Loop<PpoPolicyLoss> ppo_policy_loss;
  Loop<PpoValueLoss> ppo_value_loss;
};

extern const Kernels kBaseline;
#if defined(__x86_64__) && defined(__GNUC__)
#define ALIGNLAB_X86 1
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

// The best that this processor runs. ALIGNLAB_CPU_CAPABILITY=baseline|avx2|avx512 in the environment asks for less.
const Kernels& kernels();

}  // namespace alignlab
