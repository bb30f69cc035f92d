// The schemas of alignlab's ops, and nothing else. The kernels are in cpu/<op>.cpp; the public functions in alignlab/ops.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(alignlab, m) {
  m.def("gae(Tensor rewards, Tensor values, Tensor mask, float gamma, float lam) -> (Tensor advantages, Tensor returns)");
}
