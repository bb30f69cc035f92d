// Which namespace the loops of this translation unit live in. The same loops are compiled once per instruction set
// (isa_default.cpp, isa_avx2.cpp, isa_avx512.cpp), and kernels.cpp picks one when the process starts.
//
// Rule for everything included there: no inline function of another namespace that is not ALIGNLAB_MATH (nothing of the
// standard library, nothing of torch). The linker keeps one copy of such a function, and it might be the AVX-512 one.
#pragma once

#include "math/portable.h"

#if defined(ALIGNLAB_AVX512)
#define ALIGNLAB_ISA avx512
#elif defined(ALIGNLAB_AVX2)
#define ALIGNLAB_ISA avx2
#else
#define ALIGNLAB_ISA baseline
#endif
