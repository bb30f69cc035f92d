// masked_whiten on the CPU; the loops are in loops/masked_whiten.h.
#include <algorithm>
#include <cmath>
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"

namespace alignlab {
namespace {

using torch::stable::Tensor;

struct Moments {
  double count = 0;
  double mean = 0;
  double squares = 0;  // around the mean
};

// Chan et al., 1979: the moments of two parts together.
Moments join(const Moments& a, const Moments& b) {
  const double count = a.count + b.count;
  if (count == 0) {
    return a;
  }
  const double gap = b.mean - a.mean;
  return {count, a.mean + gap * b.count / count, a.squares + b.squares + gap * gap * a.count * b.count / count};
}

// The whitened tensor; and mean and 1 / standard deviation, float [] each, for the backward.
std::tuple<Tensor, Tensor, Tensor> masked_whiten(const Tensor& x, const Tensor& mask, bool shift_mean) {
  const Columns columns({{"x", x}}, &mask);
  std::vector<double> partials(static_cast<uint64_t>(columns.num_chunks() * kMomentPartials));
  columns.run(kernels().masked_moments, MaskedMoments{columns.elements, partials.data()});
  Moments all;
  for (int64_t chunk = 0; chunk < columns.num_chunks(); ++chunk) {
    const double* partial = partials.data() + chunk * kMomentPartials;
    all = join(all, {partial[0], partial[1], partial[2]});
  }
  const double scale = 1 / std::sqrt(all.squares / std::max(1.0, all.count) + 1e-8);
  Tensor out = new_floats(x);
  MaskedWhiten arguments{};
  arguments.elements = columns.elements;
  arguments.mean = static_cast<float>(all.mean);
  arguments.scale = static_cast<float>(scale);
  arguments.shift = shift_mean ? 0 : static_cast<float>(all.mean);
  arguments.out = floats(out);
  columns.run(kernels().masked_whiten, arguments);
  return {out, number(x, all.mean), number(x, scale)};
}

// With w = (x - mean) * scale: d x = scale * (grad - mean(grad) - w * mean(grad * w)), and mean(grad) more if the mean
// was added back. Means are over the kept elements.
Tensor masked_whiten_backward(
    const Tensor& grad, const Tensor& x, const Tensor& mask, const Tensor& mean, const Tensor& scale, bool shift_mean) {
  const Columns columns({{"x", x}, {"grad", grad}}, &mask);
  std::vector<double> partials(static_cast<uint64_t>(columns.num_chunks() * kWhitenPartials));
  std::vector<double> counts(static_cast<uint64_t>(columns.num_chunks() * kMomentPartials));
  Tensor out = new_floats(x);
  MaskedWhitenBackward arguments{};
  arguments.elements = columns.elements;
  arguments.mean = *floats(mean);
  arguments.scale = *floats(scale);
  arguments.partials = partials.data();
  arguments.out = floats(out);
  columns.run(kernels().masked_moments, MaskedMoments{columns.elements, counts.data()});
  columns.run(kernels().masked_whiten_backward_sums, arguments);
  const double count = std::max(1.0, sum_of(counts, kMomentPartials, 0));
  const double grad_mean = sum_of(partials, kWhitenPartials, 0) / count;
  const double product_mean = sum_of(partials, kWhitenPartials, 1) / count;
  const double factor = arguments.scale;
  arguments.grad_mean = static_cast<float>(shift_mean ? -factor * grad_mean : grad_mean - factor * grad_mean);
  arguments.grad_slope = static_cast<float>(-factor * product_mean);
  columns.run(kernels().masked_whiten_backward, arguments);
  return out;
}

}  // namespace
}  // namespace alignlab

STABLE_TORCH_LIBRARY_IMPL(alignlab, CPU, m) {
  m.impl("masked_whiten", TORCH_BOX(&alignlab::masked_whiten));
  m.impl("masked_whiten_backward", TORCH_BOX(&alignlab::masked_whiten_backward));
}
