// What the math of one element calls: here for a float, in cpu/vec.h for a vector of them.
#pragma once

#include <math.h>

#include "math/portable.h"

namespace alignlab {

ALIGNLAB_MATH float select(bool condition, float a, float b) { return condition ? a : b; }
// A NaN in b comes through.
ALIGNLAB_MATH float max(float a, float b) { return a > b ? a : b; }
ALIGNLAB_MATH float min(float a, float b) { return a < b ? a : b; }
ALIGNLAB_MATH float fma(float a, float b, float c) { return fmaf(a, b, c); }
ALIGNLAB_MATH float exp(float x) { return expf(x); }
ALIGNLAB_MATH float expm1(float x) { return expm1f(x); }

}  // namespace alignlab
