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

}  // namespace alignlab
