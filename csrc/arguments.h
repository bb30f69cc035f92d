// What the loops of each op take: pointers and numbers only (see isa.h).
#pragma once

#include "rows.h"

namespace alignlab {

enum class Storage : int64_t { kFloat, kBFloat16, kHalf };  // what lies in memory; registers hold fp32

struct TokenLogp {
  Storage storage;
  const void* logits;
  Rows rows;
  int64_t vocab;
  const int64_t* tokens;
  float inverse_temperature;
  float* logp;
  float* entropy;  // null where it is not asked for
  float* max;      // of logits / temperature
  float* log_sum;  // log sum exp(logits / temperature - max)
};

struct TokenLogpBackward {
  Storage storage;
  const void* logits;
  Rows rows;
  int64_t vocab;
  int64_t first_token;  // of a chunk of the vocabulary; a token outside of it is in another
  const int64_t* tokens;
  float inverse_temperature;
  const float* max;
  const float* log_sum;
  const float* entropy;        // null where grad_entropy is
  const float* grad_logp;      // null for zeros
  const float* grad_entropy;   // null for zeros
  void* grad_logits;           // rows of their own, or the logits themselves
  Rows grad_rows;
  bool stream;                 // past the caches
};

struct Gae {
  Storage reward_storage;
  Storage value_storage;
  const void* rewards;
  const void* values;
  const bool* mask;
  Rows reward_rows;
  Rows value_rows;
  Rows mask_rows;
  int64_t length;
  float gamma;
  float lam;
  float* advantages;
  float* returns;
};

struct KlDivergence {
  Storage storage;
  const void* logits_p;
  const void* logits_q;
  Rows p_rows;
  Rows q_rows;
  int64_t vocab;
  float inverse_temperature;
  float* kl;
  float* max_p;
  float* log_sum_p;
  float* max_q;
  float* log_sum_q;
};

struct KlDivergenceBackward {
  Storage storage;
  const void* logits_p;
  const void* logits_q;
  Rows p_rows;
  Rows q_rows;
  int64_t vocab;
  float inverse_temperature;
  const float* kl;
  const float* max_p;
  const float* log_sum_p;
  const float* max_q;
  const float* log_sum_q;
  const float* grad;
  void* grad_p;  // the logits themselves or a tensor of its own; null where it is not asked for
  void* grad_q;  // likewise
  Rows grad_p_rows;
  Rows grad_q_rows;
  bool stream;  // past the caches
};

// One chunk of the vocabulary, [first_token, first_token + size), folded into what the chunks before it left.
struct LinearLogpFold {
  Storage storage;
  const void* logits;
  Rows rows;
  int64_t size;
  int64_t first_token;
  const int64_t* tokens;
  float inverse_temperature;
  float* max;
  float* sum;
  float* mean;  // null where the entropy is not asked for
  float* drawn;  // the token's logit
};

// A tensor of one number a token, read chunk by chunk.
struct Column {
  Storage storage;
  const void* data;
  Rows rows;
};

// Tensors of one shape, as num_rows rows of `length`, cut into chunks of kChunk that do not depend on the threads.
constexpr int64_t kMaxColumns = 3;
constexpr int64_t kChunk = 8192;
struct Elements {
  int64_t num_rows;
  int64_t length;
  Column columns[kMaxColumns];
  const bool* mask;  // null where nothing is masked
  Rows mask_rows;

  ALIGNLAB_MATH int64_t chunks_per_row() const {
    return (length + kChunk - 1) / kChunk;
  }
};

struct KlEstimates {
  Elements elements;
  int64_t kind;  // KlEstimator
  float* estimate;
  float* derivative;
};

struct PpoPolicyLoss {
  Elements elements;  // logp, old_logp, advantages
  float low;
  float high;
  float dual;
  float* gradient;   // null where it is not asked for
  double* partials;  // of every chunk: total, clipped, dual-clipped, kl, kept
};
constexpr int64_t kPolicyPartials = 5;

struct PpoValueLoss {
  Elements elements;  // values, old_values, returns
  float clip;
  float* gradient;   // null where it is not asked for
  double* partials;  // of every chunk: total, clipped, kept
};
constexpr int64_t kValuePartials = 3;

struct MaskedMoments {
  Elements elements;
  double* partials;  // of every chunk: kept, mean, sum of squares around the mean
};
constexpr int64_t kMomentPartials = 3;

struct MaskedWhiten {
  Elements elements;
  float mean;
  float scale;
  float shift;  // what is added back
  float* out;
};

// Both passes of the backward: sums of every chunk, and then the gradient.
struct MaskedWhitenBackward {
  Elements elements;  // x, grad
  float mean;
  float scale;
  double* partials;  // of every chunk: sum grad, sum grad * whitened
  float grad_mean;   // of the second pass: what is taken off
  float grad_slope;
  float* out;
};
constexpr int64_t kWhitenPartials = 2;

}  // namespace alignlab
