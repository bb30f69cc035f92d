// Which of the compiled tables serves this process.
#include "cpu/kernels.h"

#include <cstdlib>
#include <cstring>

namespace alignlab {
namespace {

const Kernels& choose() {
#if defined(ALIGNLAB_X86)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const char* wanted = std::getenv("ALIGNLAB_CPU_CAPABILITY");
  const bool wants_baseline = wanted && std::strcmp(wanted, "baseline") == 0;
  const bool wants_avx2 = wanted && std::strcmp(wanted, "avx2") == 0;
  if (has_avx512 && !wants_baseline && !wants_avx2) {
    return kAvx512;
  }
  if (has_avx2 && !wants_baseline) {
    return kAvx2;
  }
#endif
  return kBaseline;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace alignlab
