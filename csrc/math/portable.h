// What one element's math is written in, so that C++ compilers and nvcc take the same source.
#pragma once

#include <cstdint>

// Always inlined: a file that is compiled for AVX-512 must leave no out-of-line copy for the linker to hand to others.
#if defined(__CUDACC__)
#define ALIGNLAB_MATH __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define ALIGNLAB_MATH __forceinline
#else
#define ALIGNLAB_MATH inline __attribute__((always_inline))
#endif
