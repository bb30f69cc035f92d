"""DPO on the toy: its losses are those of alignlab.losses at the model's own log-probs; settings, state, reference."""

import json
import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
import toy
from pydantic import ValidationError

from alignlab.errors import DataError
from alignlab.losses import DPOLoss, dpo

BATCH = ("aot", "aot_unpaired")
WANTS = {"exo_pair": {"label_smoothing": 0.01}, "robust": {"label_smoothing": 0.1}}


def prepared(base, num_pairs=4, columns=None, **settings):
    chosen = toy.method("dpo", **settings)
    run = toy.run_for(base, chosen)
    records = toy.split_for(base, "preference").train[:num_pairs]
    if columns is not None:
        records = [
            replace(record, columns={**record.columns, **extra}) for record, extra in zip(records, columns, strict=True)
        ]
    return chosen, run, toy.collect(run, chosen, records)


def log_probs(run, role, batch):
    """Log-probs of whole answers from the model itself, fp64 from its logits on; chosen and rejected."""
    with torch.no_grad():
        logits = run.models[role](input_ids=batch.tokens, attention_mask=batch.valid.long()).logits.double()
    logp = logits[:, :-1].log_softmax(-1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    return logp.where(batch.acted[:, 1:], 0.0).sum(1).view(-1, 2).T


def lengths(batch):
    return tuple(batch.acted.sum(1).view(-1, 2).T)


def expected(run, batch, name, **settings):
    ref = log_probs(run, "ref", batch) if "ref" in run.models else torch.zeros(2, len(batch) // 2).double()
    by_length = settings.pop("by_length", name in ("sigmoid_norm", "simpo"))
    return dpo(
        *log_probs(run, "policy", batch),
        *ref,
        loss_type=name,
        lengths=lengths(batch) if by_length else None,
        **{**WANTS.get(name, {}), **settings},
    ).sum()


def total(chosen, run, batch):
    with torch.no_grad():
        return chosen.optimize(run, batch)


@pytest.mark.parametrize("name", [name for name in get_args(DPOLoss) if name != "bco_pair"])
def test_every_type_is_its_loss_at_the_model_s_own_log_probs(base, name):
    chosen, run, batch = prepared(base, beta=0.3, loss_type=name, **WANTS.get(name, {}))
    assert float(total(chosen, run, batch).total) == pytest.approx(
        float(expected(run, batch, name, beta=0.3)), rel=1e-4
    )


@pytest.mark.parametrize("name", ["ipo", "aot", "aot_unpaired", "sppo_hard"])
def test_length_normalize_averages_over_each_answer_s_tokens(base, name):
    chosen, run, batch = prepared(base, beta=0.3, loss_type=name, length_normalize=True)
    found = float(total(chosen, run, batch).total)
    assert found == pytest.approx(float(expected(run, batch, name, beta=0.3, by_length=True)), rel=1e-4)
    assert found != pytest.approx(float(expected(run, batch, name, beta=0.3)), rel=1e-2)


def test_the_metrics_are_those_of_implicit_rewards(base):
    chosen, run, batch = prepared(base, beta=0.3)
    better, worse = 0.3 * (log_probs(run, "policy", batch) - log_probs(run, "ref", batch))
    metrics = total(chosen, run, batch).metrics
    assert float(metrics["margin"]) == pytest.approx(float((better - worse).sum()), rel=1e-3, abs=1e-4)
    assert float(metrics["accuracy"]) == float((better > worse).sum())
    assert float(metrics["chosen_logp"]) == pytest.approx(float(log_probs(run, "policy", batch)[0].sum()), rel=1e-5)


def test_it_starts_at_ln_2_when_policy_and_reference_are_one(base):
    chosen, run, batch = prepared(base)
    run.models["ref"].load_state_dict(run.models["policy"].state_dict())
    loss = total(chosen, run, toy.collect(run, chosen, list(batch.records[::2])))
    assert float(loss.total) / 4 == pytest.approx(math.log(2), rel=1e-6)
    assert float(loss.metrics["accuracy"]) == 2.0  # four ties, half each


def test_a_mixture_is_the_weighted_sum_and_each_part_is_logged(base):
    names, weights = ("sigmoid", "ipo", "apo_zero"), (0.8, 0.05, 2.0)
    chosen, run, batch = prepared(base, beta=0.3, loss_type=names, loss_weights=weights)
    loss = total(chosen, run, batch)
    parts = [float(expected(run, batch, name, beta=0.3)) for name in names]
    assert float(loss.total) == pytest.approx(sum(w * p for w, p in zip(weights, parts, strict=True)), rel=1e-4)
    assert [float(loss.metrics[f"{name}_loss"]) for name in names] == pytest.approx(parts, rel=1e-4)


def test_types_without_weights_count_one_each(base):
    chosen, run, batch = prepared(base, loss_type=["sigmoid", "hinge"])
    parts = sum(float(expected(run, batch, name, beta=0.1)) for name in ("sigmoid", "hinge"))
    assert float(total(chosen, run, batch).total) == pytest.approx(parts, rel=1e-4)


def test_the_sft_term_is_the_mean_over_each_chosen_answer_s_tokens(base):
    chosen, run, batch = prepared(base, sft_coef=0.5)
    nll = -(log_probs(run, "policy", batch)[0] / lengths(batch)[0]).sum()
    loss = total(chosen, run, batch)
    assert float(loss.metrics["sft_loss"]) == pytest.approx(float(nll), rel=1e-5)
    assert float(loss.total) == pytest.approx(float(expected(run, batch, "sigmoid", beta=0.1) + 0.5 * nll), rel=1e-5)


def test_soft_labels_come_from_the_rows(base):
    found = [1.0, 0.7, 0.0, 0.25]
    columns = [{"probability": p} for p in found]
    chosen, run, batch = prepared(base, beta=0.3, columns=columns)
    assert batch.probability.tolist() == pytest.approx([p for p in found for _ in range(2)])
    soft = expected(run, batch, "sigmoid", beta=0.3, probability=torch.tensor(found))
    assert float(total(chosen, run, batch).total) == pytest.approx(float(soft), rel=1e-4)
    hard, run, batch = prepared(base, beta=0.3, columns=columns, soft_labels=False)
    assert float(total(hard, run, batch).total) == pytest.approx(
        float(expected(run, batch, "sigmoid", beta=0.3)), rel=1e-4
    )


@pytest.mark.parametrize("name", BATCH)
def test_aot_with_a_soft_label_is_an_error_that_names_the_row(base, name):
    columns = [{"probability": 1.0}, {"probability": 0.6}]
    with pytest.raises(DataError, match=r"`probability` is 0.6") as raised:
        prepared(base, num_pairs=2, columns=columns, loss_type=["sigmoid", name])
    assert raised.value.where == toy.split_for(base, "preference").train[1].where
    prepared(base, num_pairs=2, columns=columns, loss_type=["sigmoid", name], soft_labels=False)


def test_bco_is_shifted_by_the_mean_reward_of_all_pairs_so_far(base):
    chosen, run, first = prepared(base, beta=0.3, loss_type="bco_pair")
    second = toy.collect(run, chosen, toy.split_for(base, "preference").train[4:10])
    rewards = [0.3 * (log_probs(run, "policy", batch) - log_probs(run, "ref", batch)) for batch in (first, second)]
    mean = float(torch.cat([r.flatten() for r in rewards]).mean())
    assert run.state["bco"] == [pytest.approx(mean, rel=1e-3), 20]
    assert json.loads(json.dumps(run.state)) == run.state
    found = float(total(chosen, run, second).total)
    assert found == pytest.approx(float(expected(run, second, "bco_pair", beta=0.3, shift=mean)), rel=1e-4)
    assert found != pytest.approx(float(expected(run, second, "bco_pair", beta=0.3, shift=0.0)), rel=1e-4)


def test_an_evaluation_does_not_move_bco_s_shift(base):
    chosen, run, _ = prepared(base, loss_type="bco_pair")
    before = dict(run.state)
    run.begin(0, train=False)
    toy.collect(run, chosen, toy.split_for(base, "preference").eval[:4])
    assert run.state == before


def test_simpo_alone_loads_no_reference_and_beside_another_loss_there_is_one(base):
    alone, run, _ = prepared(base, loss_type="simpo")
    assert set(run.models) == set(alone.roles) == {"policy"}
    assert set(toy.method("dpo", loss_type=["simpo", "sigmoid"]).roles) == {"policy", "ref"}


def test_the_reference_follows_when_it_is_told_to(base):
    assert toy.method("dpo").roles["ref"].follow is None
    follow = toy.method("dpo", ref_sync_steps=3, ref_sync_alpha=0.25).roles["ref"].follow
    assert (follow.role, follow.alpha, follow.every) == ("policy", 0.25, 3)


def test_one_type_and_a_list_of_one_are_the_same():
    assert toy.method("dpo", loss_type="ipo") == toy.method("dpo", loss_type=["ipo"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "sigmoidal"}, "sigmoid_norm"),
        ({"loss_type": []}, "at least 1"),
        ({"loss_type": ["sigmoid", "ipo"], "loss_weights": [1.0]}, "`loss_weights` has 1 for 2 of `loss_type`"),
        ({"loss_type": "exo_pair"}, "exo_pair wants a `label_smoothing` above 0"),
        ({"loss_type": "simpo", "ref_sync_steps": 4}, "simpo has no reference"),
        ({"label_smoothing": 0.5}, "less than 0.5"),
        ({"ref_sync_alpha": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        toy.method("dpo", **settings)
