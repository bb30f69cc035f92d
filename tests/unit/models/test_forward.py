"""What the engine reads from a model is what the model itself says, whatever stands beside a row."""

import model_directories
import pytest
import torch
from torch import Tensor

from alignlab.batch import Batch, Sample, collate
from alignlab.models import head_is_separable, hidden_states, lm_logits, logits_at, scalar, sequence_scores

ROWS = [[5, 17, 40, 9, 33, 8, 21, 60, 11, 12, 13, 70], [7, 90, 31], [100, 4, 4, 52, 66, 19, 23]]


def batch_of(rows: list[list[int]]) -> Batch:
    return collate([Sample(tuple(row), (True,) * len(row)) for row in rows], unit=range(len(rows)))


def moved(batch: Batch, left: int, right: int) -> Batch:
    """The batch with every row shifted to the right end of the columns, and more padding on both sides."""
    width = batch.tokens.shape[1]

    def shift(x: Tensor) -> Tensor:
        if x.dim() < 2:
            return x
        rows = [row.roll(width - n) for row, n in zip(x, batch.lengths.tolist(), strict=True)]
        return torch.nn.functional.pad(torch.stack(rows), (left, right), value=3 if x.dtype == torch.int64 else False)

    return batch.map(shift)


def test_logits_are_those_of_the_model(directory, load):
    model = load(directory)
    assert head_is_separable(model)
    for row in ROWS:
        ours = logits_at(model, batch_of([row]), torch.ones(1, len(row), dtype=torch.bool))
        theirs = model(torch.tensor([row])).logits[0]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_logits_come_for_the_asked_positions_in_their_order(directory, load):
    model = load(directory)
    batch = batch_of(ROWS)
    where = torch.zeros_like(batch.valid)
    where[0, 3] = where[0, 7] = where[2, 6] = True
    every = model(batch.tokens, attention_mask=batch.valid.long(), position_ids=batch.positions).logits
    expected = torch.stack([every[0, 3], every[0, 7], every[2, 6]])
    torch.testing.assert_close(logits_at(model, batch, where), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (5, 0), (0, 3), (9, 4)])
def test_padding_on_either_side_changes_no_hidden_state(directory, load, left, right):
    model = load(directory)
    batch = batch_of(ROWS)
    alone = torch.cat([hidden_states(model, batch_of([row]))[0] for row in ROWS])
    padded = moved(batch, left, right)
    torch.testing.assert_close(hidden_states(model, padded)[padded.valid], alone, rtol=0, atol=5e-6)


def test_no_mask_is_given_where_all_padding_is_on_the_right(llama, load, monkeypatch):
    model = load(llama)
    masks = []
    forward = model.base_model.forward
    monkeypatch.setattr(
        model.base_model, "forward", lambda **inputs: masks.append(inputs.get("attention_mask")) or forward(**inputs)
    )
    batch = batch_of(ROWS)
    hidden_states(model, batch)
    hidden_states(model, moved(batch, 0, 2))
    assert masks[0] is None
    assert masks[1] is not None


def test_padding_changes_no_gradient(directory, load):
    model = load(directory)
    batch = batch_of(ROWS)

    def gradients(batch: Batch) -> list[Tensor]:
        model.zero_grad()
        logits_at(model, batch, batch.valid).logsumexp(-1).square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    for plain, padded in zip(gradients(batch), gradients(moved(batch, 6, 2)), strict=True):
        scale = float(plain.abs().max())
        torch.testing.assert_close(padded, plain, rtol=0, atol=1e-5 * scale)


@torch.no_grad()
def test_soft_capping_of_logits_is_applied(tmp_path, load):
    model = load(model_directories.gemma(tmp_path, final_logit_softcapping=2.0))
    batch = batch_of(ROWS[:1])
    ours = lm_logits(model, hidden_states(model, batch))
    assert float(ours.abs().max()) < 2.0
    assert float((model.get_output_embeddings()(hidden_states(model, batch)) - ours).abs().max()) > 0.1
    torch.testing.assert_close(ours, model(batch.tokens).logits, rtol=0, atol=2e-6)


def test_a_head_that_does_more_is_noticed_and_the_model_s_own_logits_are_used(llama, load):
    model = load(llama)
    project = model.forward

    def forward(*args, **kwargs):
        output = project(*args, **kwargs)
        output.logits = output.logits * 1.001
        return output

    model.forward = forward
    assert not head_is_separable(model)
    batch = batch_of(ROWS)
    where = batch.valid.clone()
    where[:, 0] = False
    expected = project(batch.tokens, attention_mask=batch.valid.long(), position_ids=batch.positions).logits * 1.001
    torch.testing.assert_close(logits_at(model, batch, where), expected[where])


def test_the_score_is_read_after_the_last_valid_token(directory, load):
    model = load(directory, "scalar")
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    batch = batch_of(ROWS)
    alone = torch.stack([scalar(model, hidden_states(model, batch_of([row]))[0])[-1] for row in ROWS])
    assert alone.std() > 0.1
    torch.testing.assert_close(sequence_scores(model, batch), alone, rtol=0, atol=2e-5)
    torch.testing.assert_close(sequence_scores(model, moved(batch, 3, 2)), alone, rtol=0, atol=2e-5)
