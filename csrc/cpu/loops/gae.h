// gae: every row from its end, Vec::kSize steps at a time. The steps of a vector are composed by a scan in the register
// (math/gae.h), so that one long row is as fast as many short ones, and nothing has to be transposed.
#pragma once

#include "cpu/loops/storage.h"
#include "math/gae.h"

namespace alignlab::ALIGNLAB_ISA {

struct AffineMap {
  Vec slope;
  Vec offset;
};

// Compose every step with the kBy steps after it; past the end stands the identity.
template <int kBy>
ALIGNLAB_MATH AffineMap compose(AffineMap map) {
  const Vec slope = shift<kBy>(map.slope, set(1));
  const Vec offset = shift<kBy>(map.offset, set(0));
  return {map.slope * slope, fma(map.slope, offset, map.offset)};
}

ALIGNLAB_MATH AffineMap scan_from_the_end(AffineMap map) {
  map = compose<1>(map);
  map = compose<2>(map);
  if constexpr (Vec::kSize >= 8) {
    map = compose<4>(map);
  }
  if constexpr (Vec::kSize >= 16) {
    map = compose<8>(map);
  }
  return map;
}

template <typename R, typename V>
void gae_rows(const Gae& a, int64_t begin, int64_t end) {
  const Vec gamma = set(a.gamma);
  const Vec gamma_lam = set(a.gamma * a.lam);
  for (int64_t row = begin; row < end; ++row) {
    const R* rewards = static_cast<const R*>(a.rewards) + a.reward_rows.offset(row);
    const V* values = static_cast<const V*>(a.values) + a.value_rows.offset(row);
    const bool* mask = a.mask + a.mask_rows.offset(row);
    float* advantages = a.advantages + row * a.length;
    float* returns = a.returns + row * a.length;
    Vec carry = set(0);  // in every element, that of the step after the vector
    const auto steps = [&](Vec reward, Vec value, Mask kept, Vec& advantage, Vec& target) {
      reward = zero_unless(kept, reward);  // what is masked is not read: it may be NaN
      value = zero_unless(kept, value);
      const AffineMap map = scan_from_the_end(
          {select(kept, gamma_lam, set(1)), gae_offset(reward, value, gamma, gamma_lam)});
      const Vec carries = fma(map.slope, carry, map.offset);
      advantage = zero_unless(kept, gae_advantage(reward, value, shift<1>(carries, carry)));
      target = zero_unless(kept, advantage + value);
      carry = set(first(carries));
    };
    int64_t left = a.length;
    const int64_t tail = left % Vec::kSize;
    if (tail > 0) {
      left -= tail;
      bool kept[Vec::kSize] = {};
      for (int64_t i = 0; i < tail; ++i) {
        kept[i] = mask[left + i];
      }
      Vec advantage, target;
      steps(load_part(rewards + left, tail), load_part(values + left, tail), load(kept), advantage, target);
      store_part(advantages + left, tail, advantage);
      store_part(returns + left, tail, target);
    }
    while (left > 0) {
      left -= Vec::kSize;
      Vec advantage, target;
      steps(load_one(rewards + left), load_one(values + left), load(mask + left), advantage, target);
      store(advantages + left, advantage);
      store(returns + left, target);
    }
  }
}

void gae(const Gae& a, int64_t begin, int64_t end) {
  with_storage(a.reward_storage, [&](auto reward) {
    with_storage(a.value_storage, [&](auto value) { gae_rows<decltype(reward), decltype(value)>(a, begin, end); });
  });
}

}  // namespace alignlab::ALIGNLAB_ISA
