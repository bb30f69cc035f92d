// Generalized advantage estimation of one step (Schulman et al., 2016, arXiv 1506.02438, equations 11 and 16).
#pragma once

#if defined(__CUDACC__)
#define ALIGNLAB_HOST_DEVICE __host__ __device__
#else
#define ALIGNLAB_HOST_DEVICE
#endif

namespace alignlab {

// What the recursion carries from a step to the step before it: both are 0 after the last step.
template <typename T>
struct GaeStep {
  T advantage;
  T value;
};

// `next` is the next step that the mask keeps, so that the recursion carries over what lies between.
template <typename T>
ALIGNLAB_HOST_DEVICE inline GaeStep<T> gae_step(T reward, T value, GaeStep<T> next, T gamma, T lam) {
  const T delta = reward + gamma * next.value - value;
  return {delta + gamma * lam * next.advantage, value};
}

}  // namespace alignlab
