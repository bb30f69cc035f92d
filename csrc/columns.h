// From tensors of one number a token to the chunks that loops take.
#pragma once

#include <initializer_list>
#include <vector>

#include "cpu/kernels.h"
#include "layout.h"

namespace alignlab {

struct Named {
  const char* name;
  const torch::stable::Tensor& tensor;
};

// Elements over tensors of one shape, and the tensors that they point into.
class Columns {
 public:
  Columns(std::initializer_list<Named> columns, const torch::stable::Tensor* mask) {
    const Named& like = *columns.begin();
    bool is_dense = !mask || mask->is_contiguous();
    for (const Named& column : columns) {
      check_native_dtype(column.name, column.tensor);
      check_like(column.name, column.tensor, like.name, like.tensor);
      is_dense = is_dense && column.tensor.is_contiguous();
    }
    if (mask) {
      check_like("mask", *mask, like.name, like.tensor);
      check_dtype("mask", *mask, torch::headeronly::ScalarType::Bool, "bool");
    }
    // Contiguous tensors are one long row.
    elements.length = is_dense ? like.tensor.numel() : like.tensor.size(like.tensor.dim() - 1);
    elements.num_rows = is_dense ? 1 : num_rows(like.tensor);
    int64_t at = 0;
    for (const Named& column : columns) {
      Column& out = elements.columns[at++];
      out.storage = storage(column.tensor);
      out.data = keep(column.tensor, is_dense, out.rows);
    }
    if (mask) {
      elements.mask = static_cast<const bool*>(keep(*mask, is_dense, elements.mask_rows));
    }
  }

  int64_t num_chunks() const {
    return elements.num_rows * elements.chunks_per_row();
  }

  // Chunks go to threads; what a chunk computes does not depend on which.
  template <typename Arguments>
  void run(Loop<Arguments> loop, const Arguments& arguments) const {
    const int64_t grain = rows_per_thread(elements.length < kChunk ? elements.length : kChunk);
    torch::stable::parallel_for(
        0, num_chunks(), grain, [&](int64_t begin, int64_t end) { loop(arguments, begin, end); });
  }

  Elements elements{};

 private:
  const void* keep(const torch::stable::Tensor& tensor, bool is_dense, Rows& rows) {
    if (is_dense) {
      kept_.push_back(tensor);
    } else {
      RowView view(tensor);
      rows = view.rows;
      kept_.push_back(view.tensor);
    }
    return kept_.back().const_data_ptr();
  }

  std::vector<torch::stable::Tensor> kept_;
};

// The sum of partial `which` of every chunk, in the order of the chunks.
inline double sum_of(const std::vector<double>& partials, int64_t num_partials, int64_t which) {
  double sum = 0;
  for (uint64_t i = static_cast<uint64_t>(which); i < partials.size(); i += static_cast<uint64_t>(num_partials)) {
    sum += partials[i];
  }
  return sum;
}

// A float [] tensor.
inline torch::stable::Tensor number(const torch::stable::Tensor& like, double value) {
  torch::stable::Tensor out = torch::stable::new_empty(like, {}, torch::headeronly::ScalarType::Float);
  *floats(out) = static_cast<float>(value);
  return out;
}

inline torch::stable::Tensor new_floats(const torch::stable::Tensor& like) {
  return torch::stable::new_empty(like, like.sizes(), torch::headeronly::ScalarType::Float);
}

// Like `like`, or of no element where it is not asked for.
inline torch::stable::Tensor new_floats_if(bool wanted, const torch::stable::Tensor& like) {
  return wanted ? new_floats(like) : torch::stable::new_empty(like, {0}, torch::headeronly::ScalarType::Float);
}

}  // namespace alignlab
