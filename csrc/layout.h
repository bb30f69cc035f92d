// From torch's tensors to what kernels take: rows, and the dtype they are stored in.
#pragma once

#include <algorithm>
#include <optional>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "arguments.h"
#include "checks.h"
#include "rows.h"

namespace alignlab {


inline Storage storage(const torch::stable::Tensor& tensor) {
  using torch::headeronly::ScalarType;
  const ScalarType dtype = tensor.scalar_type();
  return dtype == ScalarType::Float ? Storage::kFloat
      : dtype == ScalarType::Half   ? Storage::kHalf
                                    : Storage::kBFloat16;
}

// The leading dimensions of [..., V], merged where they can be; nullopt where the elements of a row do not lie side by
// side, or where too many dimensions are left.
inline std::optional<Rows> rows_of(const torch::stable::Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  if (tensor.size(last) > 1 && tensor.stride(last) != 1) {
    return std::nullopt;
  }
  Rows rows;
  for (int64_t dim = 0; dim < last; ++dim) {
    const int64_t size = tensor.size(dim);
    const int64_t stride = tensor.stride(dim);
    if (size == 1) {
      continue;
    }
    if (rows.num_dims > 0 && rows.strides[rows.num_dims - 1] == size * stride) {
      rows.sizes[rows.num_dims - 1] *= size;
      rows.strides[rows.num_dims - 1] = stride;
      continue;
    }
    if (rows.num_dims == kMaxRowDims) {
      return std::nullopt;
    }
    rows.sizes[rows.num_dims] = size;
    rows.strides[rows.num_dims] = stride;
    ++rows.num_dims;
  }
  return rows;
}

// A tensor whose rows a kernel can walk: itself, or a contiguous copy.
struct RowView {
  torch::stable::Tensor tensor;
  Rows rows;

  explicit RowView(const torch::stable::Tensor& given) : tensor(given) {
    std::optional<Rows> found = rows_of(given);
    if (!found) {
      tensor = torch::stable::contiguous(given);
      found = rows_of(tensor);
    }
    rows = *found;
  }
};

inline int64_t num_rows(const torch::stable::Tensor& tensor) {
  int64_t rows = 1;
  for (int64_t dim = 0; dim < tensor.dim() - 1; ++dim) {
    rows *= tensor.size(dim);
  }
  return rows;
}

inline float* floats(const torch::stable::Tensor& tensor) {
  return static_cast<float*>(tensor.mutable_data_ptr());
}

// A result that would push everything else out of the caches, and is not read again soon.
inline bool is_larger_than_caches(const torch::stable::Tensor& tensor) {
  constexpr int64_t kBytes = int64_t{8} << 20;
  return tensor.numel() * (storage(tensor) == Storage::kFloat ? 4 : 2) >= kBytes;
}

// One fp32 number for every element of `like`, contiguous.
inline torch::stable::Tensor dense_floats(
    const char* name,
    const torch::stable::Tensor& tensor,
    const char* like_name,
    const torch::stable::Tensor& like) {
  check_like(name, tensor, like_name, like);
  check_dtype(name, tensor, torch::headeronly::ScalarType::Float, "float32");
  return torch::stable::contiguous(tensor);
}

// Rows that a CPU thread takes at least: below some 32,768 elements it costs more than it saves.
inline int64_t rows_per_thread(int64_t row_length) {
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, row_length));
}

}  // namespace alignlab
