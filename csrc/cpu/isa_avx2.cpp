// The loops for AVX2 with FMA and F16C: the build gives this file the flags for it (alignlab/ops/build.py).
#if defined(__AVX2__)
#define ALIGNLAB_AVX2
#include "cpu/loops/table.h"

namespace alignlab {
const Kernels kAvx2 = avx2::table("avx2");
}  // namespace alignlab
#endif
