// Tokens that are indices of the vocabulary: on a CPU they are looked at before a kernel uses them.
#pragma once

#include <string>

#include "layout.h"

namespace alignlab {

// "[2, 7]" of a flat index.
inline std::string position(const torch::stable::Tensor& tensor, int64_t index) {
  std::string text = "]";
  for (int64_t dim = tensor.dim() - 1; dim >= 0; --dim) {
    text = (dim ? ", " : "[") + std::to_string(index % tensor.size(dim)) + text;
    index /= tensor.size(dim);
  }
  return tensor.dim() ? text : "[]";
}

// Contiguous tokens in [0, vocab).
inline torch::stable::Tensor checked_tokens(const torch::stable::Tensor& tokens, int64_t vocab) {
  check_dtype("tokens", tokens, torch::headeronly::ScalarType::Long, "int64");
  const torch::stable::Tensor dense = torch::stable::contiguous(tokens);
  const int64_t* token = static_cast<const int64_t*>(dense.const_data_ptr());
  for (int64_t i = 0; i < dense.numel(); ++i) {
    STD_TORCH_CHECK(
        token[i] >= 0 && token[i] < vocab,
        "tokens wants values in [0, ", vocab, "), got ", token[i], " at ", position(tokens, i));
  }
  return dense;
}

}  // namespace alignlab
