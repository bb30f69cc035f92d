// Walks over tensors of one number a token: a chunk at a time, in blocks of fp32 whatever they are stored as.
#pragma once

#include "cpu/loops/storage.h"

namespace alignlab::ALIGNLAB_ISA {

constexpr int64_t kBlockLength = 512;

struct Block {
  const float* in[kMaxColumns];
  const bool* mask;
  int64_t offset;  // of its first element in a contiguous output
  int64_t length;  // filled up to whole vectors with zeros and a mask of false

  ALIGNLAB_MATH Vec load_column(int64_t column, int64_t i) const { return load(in[column] + i); }
  // NaN may stand where masked, which a product with 0 would keep.
  ALIGNLAB_MATH Vec load_kept(int64_t column, int64_t i) const { return zero_unless(load(mask + i), load(in[column] + i)); }
  ALIGNLAB_MATH void store_out(float* out, int64_t i, Vec x) const {
    if (i + Vec::kSize <= length) {
      store(out + offset + i, x);
    } else {
      store_part(out + offset + i, length - i, x);
    }
  }
};

// Whole vectors at p: p itself where nothing has to be done, else the elements in the buffer.
ALIGNLAB_MATH const float* as_floats(const Column& column, int64_t at, int64_t n, float* buffer) {
  const int64_t whole = n / Vec::kSize * Vec::kSize;
  if (column.storage == Storage::kFloat && whole == n) {
    return static_cast<const float*>(column.data) + at;
  }
  with_storage(column.storage, [&](auto type) {
    using T = decltype(type);
    const T* p = static_cast<const T*>(column.data) + at;
    for (int64_t i = 0; i < whole; i += Vec::kSize) {
      store(buffer + i, load_one(p + i));
    }
    if (whole < n) {
      store(buffer + whole, load_part(p + whole, n - whole));
    }
  });
  return buffer;
}

// Call f(block) for the blocks of one chunk.
template <int64_t kColumns, typename F>
ALIGNLAB_MATH void for_blocks(const Elements& a, int64_t chunk, const F& f) {
  const int64_t per_row = a.chunks_per_row();
  const int64_t row = chunk / per_row;
  const int64_t begin = chunk % per_row * kChunk;
  const int64_t end = begin + kChunk < a.length ? begin + kChunk : a.length;
  float buffers[kColumns][kBlockLength];
  bool mask_buffer[kBlockLength];
  for (int64_t at = begin; at < end; at += kBlockLength) {
    Block block{};
    block.length = at + kBlockLength < end ? kBlockLength : end - at;
    block.offset = row * a.length + at;
    for (int64_t k = 0; k < kColumns; ++k) {
      const Column& column = a.columns[k];
      block.in[k] = as_floats(column, column.rows.offset(row) + at, block.length, buffers[k]);
    }
    const bool* mask = a.mask ? a.mask + a.mask_rows.offset(row) + at : nullptr;
    block.mask = mask;
    if (!mask || block.length % Vec::kSize != 0) {
      for (int64_t i = 0; i < kBlockLength; ++i) {
        mask_buffer[i] = i < block.length && (!mask || mask[i]);
      }
      block.mask = mask_buffer;
    }
    f(block);
  }
}

}  // namespace alignlab::ALIGNLAB_ISA
