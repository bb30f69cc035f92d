// The loops that are compiled once per instruction set, as a table: host code calls kernels().<op>(arguments, rows).
#pragma once

#include "arguments.h"

namespace alignlab {

struct Kernels {
  const char* capability;
  void (*token_logp)(const TokenLogp&, int64_t begin, int64_t end);
  void (*token_logp_backward)(const TokenLogpBackward&, int64_t begin, int64_t end);
  void (*gae)(const Gae&, int64_t begin, int64_t end);
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
