"""The engine's view of a model: hidden states of a batch, and what a head makes of some of them."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignlab.batch import Batch

_separable: "WeakKeyDictionary[PreTrainedModel, bool]" = WeakKeyDictionary()


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the last hidden states, after the final norm, float [B, T, H].

    Position ids count valid tokens, so a row's states do not depend on its padding (PPO.md row 10).
    """
    hidden: Tensor = model.base_model(**_inputs(batch)).last_hidden_state
    return hidden


def lm_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Return logits of hidden states [..., H], float [..., V]: the output embeddings, and what some models add.

    Right where `head_is_separable`; `logits_at` is right everywhere.
    """
    logits: Tensor = model.get_output_embeddings()(hidden)
    config = model.config.get_text_config()
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2 to 4
        logits = torch.tanh(logits / cap) * cap
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * scale
    if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits = logits / scaling
    return logits


def logits_at(model: PreTrainedModel, batch: Batch, where: Tensor) -> Tensor:
    """Return the logits after the tokens at `where` (bool [B, T]), float [N, V].

    The head is computed there only; for a model whose head is more than `lm_logits` knows, the whole model runs with
    all of its logits in memory, and gives its own.
    """
    if head_is_separable(model):
        return lm_logits(model, hidden_states(model, batch)[where])
    logits: Tensor = model(**_inputs(batch)).logits
    return logits[where]


def head_is_separable(model: PreTrainedModel) -> bool:
    """Return whether `lm_logits` of `hidden_states` are the model's own logits, by trying it once on three tokens."""
    if model not in _separable:
        _separable[model] = model.get_output_embeddings() is None or _agrees(model)
    return _separable[model]


@torch.no_grad()
def _agrees(model: PreTrainedModel) -> bool:
    if model.base_model is model:  # transformers does not know which of its parts is below the head
        return False
    tokens = torch.tensor([[1, 2, 3]], device=model.device)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    batch = Batch(tokens=tokens, valid=valid, acted=valid, unit=torch.zeros_like(tokens[:, 0]))
    ours, theirs = lm_logits(model, hidden_states(model, batch)), model(**_inputs(batch)).logits
    # The same sums in the same order, so a few units in the last place; a forgotten scale is never that small.
    few = 16 * torch.finfo(ours.dtype).eps
    return bool(torch.allclose(ours.float(), theirs.float(), rtol=few, atol=few * float(theirs.abs().max())))


def scalar(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Return what a scalar head makes of hidden states [..., H]: float [...]."""
    score: Tensor = model.get_submodule("score")(hidden)
    return score.squeeze(-1)


def sequence_scores(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the scalar head's output after each row's last valid token, fp32 [B]."""
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    last = (batch.valid * columns).amax(1)
    hidden = hidden_states(model, batch)[torch.arange(len(batch), device=last.device), last]
    return scalar(model, hidden).float()


def _inputs(batch: Batch) -> dict[str, Any]:
    """Return a model's inputs.

    Where all padding is on the right, no mask is given: no token looks ahead, so none sees padding, and attention
    without a mask is faster.
    """
    inputs: dict[str, Any] = {"input_ids": batch.tokens, "use_cache": False}
    if bool((batch.valid[:, 1:] <= batch.valid[:, :-1]).all()):
        width = batch.tokens.shape[1]
        return {**inputs, "position_ids": torch.arange(width, device=batch.tokens.device)[None]}
    return {**inputs, "attention_mask": batch.valid.long(), "position_ids": batch.positions}
