// The schemas of alignlab's ops, and nothing else. The kernels are in cpu/<op>.cpp and cuda/<op>.cu; the public functions,
// the fake kernels and the gradients in alignlab/ops/<op>.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(alignlab, m) {
  m.def(
      "token_logp(Tensor logits, Tensor tokens, float temperature, bool entropy)"
      " -> (Tensor logp, Tensor entropy, Tensor max, Tensor log_sum)");
  m.def(
      "token_logp_backward(Tensor logits, Tensor tokens, Tensor max, Tensor log_sum, Tensor entropy,"
      " Tensor? grad_logp, Tensor? grad_entropy, float temperature) -> Tensor");
  m.def(
      "token_logp_backward_(Tensor(a!) logits, Tensor tokens, Tensor max, Tensor log_sum, Tensor entropy,"
      " Tensor? grad_logp, Tensor? grad_entropy, float temperature) -> ()");
  m.def("gae(Tensor rewards, Tensor values, Tensor mask, float gamma, float lam) -> (Tensor advantages, Tensor returns)");
}
