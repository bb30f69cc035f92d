// Half the squared error of one value, clipped, and its gradient with respect to the value.
#pragma once

#include "math/scalar.h"

namespace alignlab {

template <typename T, typename M>
struct ValueTerm {
  T loss;
  T gradient;
  M is_clipped;
};

// `clip` is inf for none.
template <typename T>
ALIGNLAB_MATH auto value_term(T value, T old_value, T target, float clip) {
  // Not old + clamp(value - old): that rounds, so that a value within the clip would move.
  const T bounded = min(old_value + T(clip), max(old_value - T(clip), value));
  const T error = value - target;
  const T bounded_error = bounded - target;
  const T square = error * error;
  const T bounded_square = bounded_error * bounded_error;
  const auto is_clipped = bounded_square > square;
  using M = decltype(bounded_square > square);
  return ValueTerm<T, M>{T(0.5f) * max(square, bounded_square), select(is_clipped, T(0.0f), error), is_clipped};
}

}  // namespace alignlab
