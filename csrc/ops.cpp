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
  m.def(
      "linear_logp_fold_(Tensor logits, Tensor tokens, int first_token, int vocab, float temperature,"
      " Tensor(a!) max, Tensor(b!) sum, Tensor(c!)? mean, Tensor(d!) drawn) -> ()");
  m.def(
      "linear_logp_backward_(Tensor(a!) logits, Tensor tokens, int first_token, Tensor max, Tensor log_sum,"
      " Tensor entropy, Tensor grad_logp, Tensor? grad_entropy, float temperature) -> ()");
  m.def(
      "kl_divergence(Tensor logits_p, Tensor logits_q, float temperature)"
      " -> (Tensor kl, Tensor max_p, Tensor log_sum_p, Tensor max_q, Tensor log_sum_q)");
  m.def(
      "kl_divergence_backward(Tensor grad, Tensor logits_p, Tensor logits_q, Tensor kl, Tensor max_p, Tensor log_sum_p,"
      " Tensor max_q, Tensor log_sum_q, float temperature, bool wants_p, bool wants_q) -> (Tensor, Tensor)");
  m.def(
      "kl_divergence_backward_(Tensor grad, Tensor(a!) logits_p, Tensor(b!) logits_q, Tensor kl, Tensor max_p,"
      " Tensor log_sum_p, Tensor max_q, Tensor log_sum_q, float temperature, bool wants_p, bool wants_q) -> ()");
  m.def("kl_estimate(Tensor logp, Tensor ref_logp, int kind) -> (Tensor estimate, Tensor derivative)");
  m.def("gae(Tensor rewards, Tensor values, Tensor mask, float gamma, float lam) -> (Tensor advantages, Tensor returns)");
  m.def("masked_whiten(Tensor x, Tensor mask, bool shift_mean) -> (Tensor whitened, Tensor mean, Tensor scale)");
  m.def(
      "masked_whiten_backward(Tensor grad, Tensor x, Tensor mask, Tensor mean, Tensor scale, bool shift_mean) -> Tensor");
  m.def(
      "ppo_policy_loss(Tensor logp, Tensor old_logp, Tensor advantages, Tensor mask, float clip_low, float clip_high,"
      " float? dual_clip, bool wants_gradient)"
      " -> (Tensor total, Tensor clip_fraction, Tensor dual_clip_fraction, Tensor approx_kl, Tensor gradient)");
  m.def(
      "ppo_value_loss(Tensor values, Tensor old_values, Tensor returns, Tensor mask, float? clip, bool wants_gradient)"
      " -> (Tensor total, Tensor clip_fraction, Tensor gradient)");
}
