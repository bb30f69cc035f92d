// In place of csrc/cuda/launch.cuh: no device, no stream, and threads of threads.h.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include "cuda/grid.cuh"
#include "threads.h"

namespace alignlab::cuda {

class Launcher {
 public:
  explicit Launcher(const torch::stable::Tensor&) {}

  template <typename... Parameters, typename... Arguments>
  void operator()(
      const char* name, void (*kernel)(Parameters...), int64_t num_blocks, int64_t num_threads, Arguments... arguments)
      const {
    on_host::launch(name, kernel, num_blocks, num_threads, arguments...);
  }
};

}  // namespace alignlab::cuda
