// csrc/cuda, compiled for this machine's CPU and registered as its kernels: the op tests then run them.
#include <torch/csrc/stable/library.h>

#include "threads.h"

#include "columns.h"
#include "cuda/launch.cuh"

#define CUDA CPU  // the dispatch key; every header of torch that knows another CUDA is behind us

#include "cuda/gae.cu"
#include "cuda/kl_divergence.cu"
#include "cuda/kl_estimate.cu"
#include "cuda/linear_logp.cu"
#include "cuda/masked_whiten.cu"
#include "cuda/ppo_policy_loss.cu"
#include "cuda/ppo_value_loss.cu"
#include "cuda/token_logp.cu"

namespace alignlab {

const Kernels& kernels() {
  static const Kernels none{"CUDA's kernels on a CPU"};
  return none;
}

}  // namespace alignlab
