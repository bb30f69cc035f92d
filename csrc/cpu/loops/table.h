// All loops, once per including file. Included by isa_*.cpp and by nothing else.
#pragma once

#include "cpu/kernels.h"
#include "cpu/loops/gae.h"
#include "cpu/loops/token_logp.h"

// In the order of struct Kernels.
#define ALIGNLAB_TABLE(capability) \
  { capability, ALIGNLAB_ISA::token_logp, ALIGNLAB_ISA::token_logp_backward, ALIGNLAB_ISA::gae }
