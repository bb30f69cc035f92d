// masked_whiten: the moments of every chunk, and the map that they give; likewise backward.
#pragma once

#include "cpu/loops/elements.h"

namespace alignlab::ALIGNLAB_ISA {

// Around the chunk's own mean, so that a large common offset does not cancel; the chunk is still in the cache.
void masked_moments(const MaskedMoments& a, int64_t begin, int64_t end) {
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    Vec sum = set(0);
    int64_t num_kept = 0;
    for_blocks<1>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        sum = sum + block.load_kept(0, i);
        num_kept += count(load(block.mask + i));
      }
    });
    const float mean = num_kept > 0 ? reduce_add(sum) / static_cast<float>(num_kept) : 0;
    Vec rest = set(0);  // what rounding left in the mean
    Vec squares = set(0);
    for_blocks<1>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        const Vec centred = zero_unless(load(block.mask + i), block.load_column(0, i) - set(mean));
        rest = rest + centred;
        squares = fma(centred, centred, squares);
      }
    });
    double* partial = a.partials + chunk * kMomentPartials;
    partial[0] = static_cast<double>(num_kept);
    partial[1] = num_kept > 0 ? mean + static_cast<double>(reduce_add(rest)) / static_cast<double>(num_kept) : 0;
    partial[2] = reduce_add(squares);
  }
}

void masked_whiten(const MaskedWhiten& a, int64_t begin, int64_t end) {
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    for_blocks<1>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        const Vec whitened = fma(block.load_column(0, i) - set(a.mean), set(a.scale), set(a.shift));
        block.store_out(a.out, i, zero_unless(load(block.mask + i), whitened));
      }
    });
  }
}

void masked_whiten_backward_sums(const MaskedWhitenBackward& a, int64_t begin, int64_t end) {
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    Vec sum = set(0);
    Vec product = set(0);
    for_blocks<2>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        const Vec grad = block.load_kept(1, i);
        const Vec whitened = zero_unless(load(block.mask + i), (block.load_column(0, i) - set(a.mean)) * set(a.scale));
        sum = sum + grad;
        product = fma(grad, whitened, product);
      }
    });
    a.partials[chunk * kWhitenPartials] = reduce_add(sum);
    a.partials[chunk * kWhitenPartials + 1] = reduce_add(product);
  }
}

void masked_whiten_backward(const MaskedWhitenBackward& a, int64_t begin, int64_t end) {
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    for_blocks<2>(a.elements, chunk, [&](const Block& block) {
      for (int64_t i = 0; i < block.length; i += Vec::kSize) {
        const Vec whitened = (block.load_column(0, i) - set(a.mean)) * set(a.scale);
        const Vec grad = fma(block.load_column(1, i), set(a.scale), fma(whitened, set(a.grad_slope), set(a.grad_mean)));
        block.store_out(a.out, i, zero_unless(load(block.mask + i), grad));
      }
    });
  }
}

}  // namespace alignlab::ALIGNLAB_ISA
