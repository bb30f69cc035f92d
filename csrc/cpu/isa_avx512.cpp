// The loops for AVX-512 F, BW, DQ and VL: the build gives this file the flags for it (alignlab/ops/build.py).
#if defined(__AVX512F__)
#define ALIGNLAB_AVX512
#include "cpu/loops/table.h"

namespace alignlab {
const Kernels kAvx512 = avx512::table("avx512");
}  // namespace alignlab
#endif
