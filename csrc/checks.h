// Checks with the shape that came in their message.
#pragma once

#include <sstream>
#include <string>

#include <torch/csrc/stable/tensor.h>
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

inline void check_matrix(const char* name, const torch::stable::Tensor& tensor) {
  STD_TORCH_CHECK(tensor.is_cpu(), name, " wants to be on the CPU");
  STD_TORCH_CHECK(tensor.dim() == 2, name, " wants shape [B, T], got ", shape(tensor));
}

inline void check_same_shape(
    const char* name,
    const torch::stable::Tensor& tensor,
    const char* like_name,
    const torch::stable::Tensor& like) {
  check_matrix(name, tensor);
  STD_TORCH_CHECK(
      tensor.size(0) == like.size(0) && tensor.size(1) == like.size(1),
      name, " wants the shape of ", like_name, ", ", shape(like), ", got ", shape(tensor));
}

}  // namespace alignlab
