// Launches on the caller's device and stream, each checked.
#pragma once

#include <algorithm>

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include "cuda/grid.cuh"

namespace alignlab::cuda {

// While it lives, the current device is that of the tensor it was made with.
class Launcher {
 public:
  explicit Launcher(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream_));
  }

  template <typename... Parameters, typename... Arguments>
  void operator()(
      const char* name, void (*kernel)(Parameters...), int64_t num_blocks, int64_t num_threads, Arguments... arguments)
      const {
    if (num_blocks == 0) {
      return;
    }
    const dim3 grid(static_cast<unsigned>(std::min(num_blocks, kMaxBlocks)));
    const dim3 block(static_cast<unsigned>(num_threads));
    kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream_)>>>(arguments...);
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(
        error == cudaSuccess,
        name, " did not start with ", grid.x, " blocks of ", block.x, " threads: ", cudaGetErrorString(error));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_ = nullptr;
};

}  // namespace alignlab::cuda
