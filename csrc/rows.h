// Where the rows of a strided [..., V] tensor lie, so that slices such as logits[:, :-1] need no copy.
#pragma once

#include "math/portable.h"

namespace alignlab {

constexpr int64_t kMaxRowDims = 4;  // after dimensions that lie one behind the other are merged: 2 is common

struct Rows {
  int64_t num_dims = 0;
  int64_t sizes[kMaxRowDims] = {};
  int64_t strides[kMaxRowDims] = {};  // in elements

  ALIGNLAB_MATH int64_t offset(int64_t row) const {
    int64_t found = 0;
    for (int64_t dim = num_dims - 1; dim > 0; --dim) {
      found += row % sizes[dim] * strides[dim];
      row /= sizes[dim];
    }
    return num_dims ? found + row * strides[0] : 0;
  }
};

}  // namespace alignlab
