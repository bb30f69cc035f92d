// Checks with the shape that came in their message, for kernels of every device.
#pragma once

#include <sstream>
#include <string>

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

namespace alignlab {

inline std::string shape(const torch::stable::Tensor& tensor) {
  std::ostringstream text;
  text << '[';
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    text << (dim ? ", " : "") << tensor.size(dim);
  }
  text << ']';
  return text.str();
}

inline bool same_shape(const torch::stable::Tensor& a, const torch::stable::Tensor& b, int64_t num_dims) {
  for (int64_t dim = 0; dim < num_dims; ++dim) {
    if (a.size(dim) != b.size(dim)) {
      return false;
    }
  }
  return true;
}

inline void check_same_device(
    const char* name,
    const torch::stable::Tensor& tensor,
    const char* like_name,
    const torch::stable::Tensor& like) {
  STD_TORCH_CHECK(
      tensor.device() == like.device(), name, " wants the device of ", like_name, ", got two different ones");
}

// Same shape and same device.
inline void check_like(
    const char* name,
    const torch::stable::Tensor& tensor,
    const char* like_name,
    const torch::stable::Tensor& like) {
  check_same_device(name, tensor, like_name, like);
  STD_TORCH_CHECK(
      tensor.dim() == like.dim() && same_shape(tensor, like, like.dim()),
      name, " wants the shape of ", like_name, ", ", shape(like), ", got ", shape(tensor));
}

// `rows` is [...] where `matrix` is [..., V].
inline void check_one_a_row(
    const char* name,
    const torch::stable::Tensor& rows,
    const char* matrix_name,
    const torch::stable::Tensor& matrix) {
  check_same_device(name, rows, matrix_name, matrix);
  STD_TORCH_CHECK(
      matrix.dim() > 0 && rows.dim() == matrix.dim() - 1 && same_shape(rows, matrix, rows.dim()),
      matrix_name, " and ", name, " want shapes [..., V] and [...], got ", shape(matrix), " and ", shape(rows));
}

inline void check_dtype(
    const char* name, const torch::stable::Tensor& tensor, torch::headeronly::ScalarType dtype, const char* dtype_name) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, name, " wants dtype ", dtype_name);
}

inline void check_native_dtype(const char* name, const torch::stable::Tensor& tensor) {
  using torch::headeronly::ScalarType;
  const ScalarType dtype = tensor.scalar_type();
  STD_TORCH_CHECK(
      dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half,
      name, " wants dtype float32, bfloat16 or float16");
}

}  // namespace alignlab
