// masked_whiten on CUDA, two launches: each block's moments; then every block joins those, and whitens its elements.
#include <tuple>

#include <torch/csrc/stable/library.h>

#include "columns.h"
#include "cuda/elements.cuh"
#include "cuda/launch.cuh"

namespace alignlab::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMomentBlocks = 256;  // few, because every block of the second launch reads them all

struct Moments {
  double count = 0;
  double mean = 0;
  double squares = 0;  // around the mean

  // Chan et al., 1979: the moments of two parts together.
  ALIGNLAB_MATH static Moments join(const Moments& a, const Moments& b) {
    const double count = a.count + b.count;
    if (count == 0) {
      return a;
    }
    const double gap = b.mean - a.mean;
    const double share = b.count / count;
    return {count, a.mean + gap * share, a.squares + b.squares + gap * gap * a.count * share};
  }
};

__global__ void __launch_bounds__(kElementThreads) masked_moments(const MaskedMoments a) {
  // Around the thread's first element, so that a large common offset does not cancel.
  float origin = 0;
  float sum = 0;
  float squares = 0;
  int32_t count = 0;
  for_groups<1>(a.elements, [&](int64_t, int64_t, uint64_t mask, const float (&columns)[1][kGroup]) {
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      if (is_kept(mask, i)) {
        origin = count == 0 ? columns[0][i] : origin;
        const float shifted = columns[0][i] - origin;
        sum += shifted;
        squares = fmaf(shifted, shifted, squares);
        ++count;
      }
    }
  });
  const double num = count > 0 ? static_cast<double>(count) : 1;
  const double mean = sum / num;
  const Moments mine{static_cast<double>(count), origin + mean, squares - sum * mean};
  const Moments all = reduce_block(mine, Moments{}, Moments::join);
  if (threadIdx.x == 0) {
    double* partial = a.partials + blockIdx.x * kMomentPartials;
    partial[0] = all.count;
    partial[1] = all.mean;
    partial[2] = all.squares;
  }
}

struct Whitening {
  float mean;
  float scale;
};

// In every thread.
__device__ __forceinline__ Whitening whitening_of(const double* partials, int64_t num_partials) {
  Moments moments;
  for (int64_t row = threadIdx.x; row < num_partials; row += blockDim.x) {
    const double* partial = partials + row * kMomentPartials;
    moments = Moments::join(moments, {partial[0], partial[1], partial[2]});
  }
  moments = reduce_block(moments, Moments{}, Moments::join);
  Whitening out{};
  if (threadIdx.x == 0) {
    const double variance = moments.squares / (moments.count > 1 ? moments.count : 1);
    out = {static_cast<float>(moments.mean), static_cast<float>(1 / sqrt(variance + 1e-8))};
  }
  return from_first_thread(out);
}

__global__ void __launch_bounds__(kElementThreads) masked_whiten(
    const Elements elements,
    const double* partials,
    int64_t num_partials,
    bool shift_mean,
    float* out,
    float* mean_out,
    float* scale_out) {
  const Whitening whitening = whitening_of(partials, num_partials);
  const float mean = whitening.mean;
  const float scale = whitening.scale;
  const float shift = shift_mean ? 0 : mean;
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    *mean_out = mean;
    *scale_out = scale;
  }
  for_groups<1>(elements, [&](int64_t at, int64_t size, uint64_t mask, const float (&columns)[1][kGroup]) {
    float whitened[kGroup];
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      whitened[i] = is_kept(mask, i) ? fmaf(columns[0][i] - mean, scale, shift) : 0;
    }
    store_group(out + at, size, whitened);
  });
}

std::tuple<Tensor, Tensor, Tensor> run_masked_whiten(const Tensor& x, const Tensor& mask, bool shift_mean) {
  const Launcher launch(x);
  const Columns columns({{"x", x}}, &mask);
  const int64_t num_blocks = blocks_for(columns.elements);
  const int64_t num_partials = std::min(num_blocks, kMomentBlocks);
  Tensor partials = torch::stable::new_empty(x, {num_partials * kMomentPartials}, ScalarType::Double);
  double* partial = static_cast<double*>(partials.mutable_data_ptr());
  Tensor out = new_floats(x);
  Tensor mean = torch::stable::new_empty(x, {}, ScalarType::Float);
  Tensor scale = torch::stable::new_empty(x, {}, ScalarType::Float);
  launch("masked_moments", masked_moments, num_partials, kElementThreads, MaskedMoments{columns.elements, partial});
  launch(
      "masked_whiten", masked_whiten, std::max<int64_t>(1, num_blocks), kElementThreads, columns.elements, partial,
      num_partials, shift_mean, floats(out), floats(mean), floats(scale));
  return {out, mean, scale};
}

struct Line {
  float slope;
  float offset;
};

constexpr int64_t kGradientSums = 3;  // of grad, of grad * whitened, of the kept elements

__global__ void __launch_bounds__(kElementThreads)
    masked_whiten_backward_sums(
        const Elements elements, const float* mean_in, const float* scale_in, double* partials) {
  const float mean = *mean_in;
  const float scale = *scale_in;
  float sum = 0;
  float product = 0;
  int32_t count = 0;
  for_groups<2>(elements, [&](int64_t, int64_t, uint64_t mask, const float (&columns)[2][kGroup]) {
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      if (is_kept(mask, i)) {
        sum += columns[1][i];
        product = fmaf(columns[1][i], (columns[0][i] - mean) * scale, product);
        ++count;
      }
    }
  });
  store_sums<kGradientSums>({{sum, product, static_cast<double>(count)}}, partials);
}

// With w = (x - mean) * scale: d x = scale * (grad - mean(grad) - w * mean(grad * w)), and mean(grad) more if the mean
// was added back. Means are over the kept elements.
__global__ void __launch_bounds__(kElementThreads) masked_whiten_backward(
    const Elements elements,
    const float* mean_in,
    const float* scale_in,
    const double* partials,
    int64_t num_partials,
    bool shift_mean,
    float* out) {
  const Sums<kGradientSums> sums = add_partials<kGradientSums>(partials, num_partials);
  const float mean = *mean_in;
  const float scale = *scale_in;
  Line line{};
  if (threadIdx.x == 0) {
    const double share = 1 / (sums.of[2] > 1 ? sums.of[2] : 1);
    const double grad_mean = sums.of[0] * share;
    line = {
        static_cast<float>(-scale * sums.of[1] * share),
        static_cast<float>(shift_mean ? -scale * grad_mean : grad_mean - scale * grad_mean)};
  }
  line = from_first_thread(line);
  for_groups<2>(elements, [&](int64_t at, int64_t size, uint64_t mask, const float (&columns)[2][kGroup]) {
    float grad[kGroup];
#pragma unroll
    for (int64_t i = 0; i < kGroup; ++i) {
      const float whitened = (columns[0][i] - mean) * scale;
      grad[i] = is_kept(mask, i) ? fmaf(columns[1][i], scale, fmaf(whitened, line.slope, line.offset)) : 0;
    }
    store_group(out + at, size, grad);
  });
}

Tensor run_masked_whiten_backward(
    const Tensor& grad, const Tensor& x, const Tensor& mask, const Tensor& mean, const Tensor& scale, bool shift_mean) {
  const Launcher launch(x);
  const Columns columns({{"x", x}, {"grad", grad}}, &mask);
  const int64_t num_blocks = blocks_for(columns.elements);
  const int64_t num_partials = std::min(num_blocks, kMomentBlocks);
  Tensor partials = torch::stable::new_empty(x, {num_partials * kGradientSums}, ScalarType::Double);
  double* partial = static_cast<double*>(partials.mutable_data_ptr());
  Tensor out = new_floats(x);
  launch(
      "masked_whiten_backward_sums", masked_whiten_backward_sums, num_partials, kElementThreads, columns.elements,
      floats(mean), floats(scale), partial);
  launch(
      "masked_whiten_backward", masked_whiten_backward, num_blocks, kElementThreads, columns.elements, floats(mean),
      floats(scale), partial, num_partials, shift_mean, floats(out));
  return out;
}

}  // namespace
}  // namespace alignlab::cuda

STABLE_TORCH_LIBRARY_IMPL(alignlab, CUDA, m) {
  m.impl("masked_whiten", TORCH_BOX(&alignlab::cuda::run_masked_whiten));
  m.impl("masked_whiten_backward", TORCH_BOX(&alignlab::cuda::run_masked_whiten_backward));
}
